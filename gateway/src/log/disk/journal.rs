//! Reads the journals of the database before the database does.
//!
//! `fjall` cuts a journal silently behind the first mark that it does not understand, wherever that is, and refuses to open
//! at all when a checksum does not fit, even in a last batch that a power failure tore. So the journals are looked through
//! first (they hold what is not in tables yet, about 64 MiB): a torn last batch may go, damage in front of whole batches is
//! named and left alone. Every batch is synced before the next is written; hence only the last can be torn.
//!
//! The format is that of `fjall` 3: a batch is a start mark (count, sequence number), its items, and an end mark with the
//! items' checksum. Journals are laid out in advance; what follows the last batch is zeros.

use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::record::{self, Damage};

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const TRAILER: &[u8; 4] = b"FJL\x03";

/// Behind an item's tag: kind of value, compression, keyspace, three lengths.
const ITEM_HEADER_BYTES: usize = 1 + 1 + 8 + 2 + 4 + 4;

const BUFFER_BYTES: usize = 1 << 20;

/// A last batch that was not written to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Torn {
    path: PathBuf,
    /// How much of the file is whole.
    whole_bytes: u64,
    /// The last number in front of it, if any journal has one.
    pub after: Option<u64>,
}

/// Why the journals cannot be used.
#[derive(Debug)]
pub enum JournalError {
    /// A file cannot be read.
    Io(PathBuf, io::Error),
    /// Whole batches stand behind a damaged one.
    Damaged(Damage),
}

/// The numbers of the first and the last item of a whole batch.
type Numbers = (u64, u64);

enum Step {
    Batch(Numbers),
    /// The end of the file or something that is no whole batch.
    Broken,
}

/// Looks through all journals of the database in this directory; a torn last batch, if there is one.
///
/// # Errors
/// [`JournalError`]; nothing was changed.
pub fn inspect(database: &Path) -> Result<Option<Torn>, JournalError> {
    let mut last = None;
    let mut torn: Option<Torn> = None;
    for path in journals(database).map_err(|error| JournalError::Io(database.to_owned(), error))? {
        let found = look_through(&path, last).map_err(|error| JournalError::Io(path.clone(), error))?;
        // The last number in front of the damage, and the first one behind it, in this journal or in a later one.
        let (in_front, behind) =
            if torn.is_some() { (last, found.first) } else { (found.last_in_front, found.behind_damage) };
        if let Some(behind) = behind {
            let number = in_front.map_or(behind.saturating_sub(1), |number| number + 1);
            return Err(JournalError::Damaged(Damage::new(number, "is damaged in the journal")));
        }
        if found.broken && torn.is_none() {
            last = found.last_in_front;
            torn = Some(Torn { path, whole_bytes: found.whole_bytes, after: last });
        }
        if torn.is_none() {
            last = found.last_in_front;
        }
    }
    Ok(torn)
}

impl Torn {
    /// Cuts the torn batch off.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn cut(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(self.whole_bytes)?;
        file.sync_all()
    }
}

/// What one journal holds.
struct Found {
    whole_bytes: u64,
    first: Option<u64>,
    /// The last number before the damage or the end, in this journal or an earlier one.
    last_in_front: Option<u64>,
    broken: bool,
    /// The first number of a whole batch behind the damage.
    behind_damage: Option<u64>,
}

fn journals(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let id = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
        found.extend(id.map(|id| (id, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn look_through(path: &Path, last_before: Option<u64>) -> io::Result<Found> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let mut buffer = Vec::new();
    let mut found =
        Found { whole_bytes: 0, first: None, last_in_front: last_before, broken: false, behind_damage: None };
    let length = reader.get_ref().metadata()?.len();
    while let Step::Batch((first, last)) = step(&mut reader, length - found.whole_bytes, &mut buffer)? {
        found.whole_bytes = reader.stream_position()?;
        found.first.get_or_insert(first);
        found.last_in_front = Some(last);
    }
    reader.seek(SeekFrom::Start(found.whole_bytes))?;
    if skip_zeros(&mut reader)? {
        return Ok(found);
    }
    found.broken = true;
    reader.seek(SeekFrom::Start(found.whole_bytes))?;
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest)?;
    found.behind_damage = batch_within(&rest, &mut buffer)?;
    Ok(found)
}

/// Whether nothing but zeros follows.
fn skip_zeros(reader: &mut impl Read) -> io::Result<bool> {
    let zeros = vec![0; BUFFER_BYTES];
    let mut block = Vec::with_capacity(BUFFER_BYTES);
    loop {
        block.clear();
        let length = reader.take(BUFFER_BYTES as u64).read_to_end(&mut block)?;
        if length == 0 {
            return Ok(true);
        }
        if block != zeros[..length] {
            return Ok(false);
        }
    }
}

/// The first number of the first whole batch that begins anywhere in these bytes.
fn batch_within(bytes: &[u8], buffer: &mut Vec<u8>) -> io::Result<Option<u64>> {
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == START) {
        let mut rest = &bytes[at..];
        let length = rest.len() as u64;
        if let Step::Batch((first, _)) = step(&mut rest, length, buffer)? {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

/// Reads one batch; the file has `remaining` bytes from here on.
fn step(reader: &mut impl Read, remaining: u64, buffer: &mut Vec<u8>) -> io::Result<Step> {
    match batch(reader, remaining, buffer) {
        Ok(Some(numbers)) => Ok(Step::Batch(numbers)),
        Ok(None) => Ok(Step::Broken),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Step::Broken),
        Err(error) => Err(error),
    }
}

fn batch(reader: &mut impl Read, remaining: u64, buffer: &mut Vec<u8>) -> io::Result<Option<Numbers>> {
    let mut start = [0; 1 + 4 + 8];
    reader.read_exact(&mut start)?;
    let count = u32::from_le_bytes(start[1..5].try_into().expect("four bytes"));
    if start[0] != START || count == 0 {
        return Ok(None);
    }
    let mut hasher = Xxh3::default();
    let mut numbers: Option<Numbers> = None;
    for _ in 0..count {
        let Some(number) = item(reader, remaining, &mut hasher, buffer)? else { return Ok(None) };
        numbers = Some((numbers.map_or(number, |(first, _)| first), number));
    }
    let mut end = [0; 1 + 8 + TRAILER.len()];
    reader.read_exact(&mut end)?;
    let fits = end[0] == END && end[1..9] == hasher.finish().to_le_bytes() && end[9..] == *TRAILER;
    Ok(numbers.filter(|_| fits))
}

/// Reads one item into the checksum; its number, or `None` when it is not one that we write.
fn item(
    reader: &mut impl Read,
    remaining: u64,
    hasher: &mut Xxh3,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<u64>> {
    let mut header = [0; 1 + ITEM_HEADER_BYTES];
    reader.read_exact(&mut header)?;
    let length = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let (key_bytes, value_bytes, stored_bytes) =
        (u16::from_le_bytes([header[11], header[12]]), length(13), length(17));
    // A damaged length must not make us allocate what the file cannot hold.
    if header[0] != ITEM || value_bytes != stored_bytes || u64::from(stored_bytes) > remaining {
        return Ok(None);
    }
    buffer.resize(usize::from(key_bytes) + stored_bytes as usize, 0);
    reader.read_exact(buffer)?;
    hasher.update(&header);
    hasher.update(buffer);
    Ok(record::number(&buffer[..usize::from(key_bytes)]))
}
