//! What the machine, or the container, grants this process.

use std::fs;
use std::path::{Path, PathBuf};

/// The bytes of memory that the process may take: the lowest limit of its cgroup and those above it, or the machine's memory.
/// `None` where neither can be read.
#[must_use]
pub fn memory_limit_bytes() -> Option<u64> {
    limit_below(Path::new("/"))
}

/// The bytes of memory that the process has resident now. `None` where that cannot be read.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    bytes_of("VmRSS:", &fs::read_to_string("/proc/self/status").ok()?)
}

fn limit_below(root: &Path) -> Option<u64> {
    let total =
        fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| bytes_of("MemTotal:", &text));
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| Some(limit_files(root, line)?.filter_map(limit_in)));
    // A limit above what there is, as version 1 writes for "none", limits nothing.
    limits.flatten().chain(total).min()
}

/// The number on the line of this name in a file of proc(5), which counts in kibibytes.
fn bytes_of(name: &str, text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

/// Where a line of `/proc/self/cgroup` (cgroups(7)) has its limits: in its own group and in every one above it.
fn limit_files(root: &Path, line: &str) -> Option<impl Iterator<Item = PathBuf>> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, group) = (fields.next()?, fields.next()?);
    let (tree, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        list if list.split(',').any(|name| name == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let group = Path::new(group.trim_start_matches('/')).to_owned();
    let tree = root.join(tree);
    let groups: Vec<PathBuf> = group.ancestors().map(|group| tree.join(group).join(file)).collect();
    Some(groups.into_iter())
}

/// The number in a file; `max`, like a file that is not there, is no limit.
fn limit_in(file: PathBuf) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        1024 kB\nMemFree: 7 kB\n");

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        limit_below(machine(files).path())
    }

    #[test]
    fn the_lowest_limit_counts() {
        let group = ("proc/self/cgroup", "0::/a/b\n");
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[MEMINFO]), Some(1 << 20));
        assert_eq!(limit(&[MEMINFO, group]), Some(1 << 20));
        assert_eq!(limit(&[MEMINFO, group, ("sys/fs/cgroup/a/b/memory.max", "max\n")]), Some(1 << 20));
        assert_eq!(limit(&[MEMINFO, group, ("sys/fs/cgroup/a/b/memory.max", "4096\n")]), Some(4_096));
        assert_eq!(limit(&[MEMINFO, group, ("sys/fs/cgroup/a/memory.max", "8192\n")]), Some(8_192));
        // In a container the group's own tree is mounted as the root.
        assert_eq!(limit(&[MEMINFO, group, ("sys/fs/cgroup/memory.max", "512\n")]), Some(512));
    }

    #[test]
    fn the_first_version_of_cgroups_is_understood() {
        let group = ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/a\n");
        let file = "sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        assert_eq!(limit(&[MEMINFO, group, (file, "4096\n")]), Some(4_096));
        assert_eq!(limit(&[MEMINFO, group, (file, "9223372036854771712\n")]), Some(1 << 20));
    }
}
