//! The process's own numbers, with a processor time that moves in hundredths of a second.
//!
//! The `prometheus` crate counts it in whole seconds: a rate over a few scrapes then jumps by a fifth of a processor.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, Metric, MetricFamily};

/// The kernel's clock ticks a second in `/proc`, fixed on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

const PROCESSOR_TIME: &str = "process_cpu_seconds_total";

pub(super) struct Process(ProcessCollector);

impl Process {
    pub(super) fn this() -> Self {
        Self(ProcessCollector::for_self())
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        let seconds = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(processor_seconds);
        let family = families.iter_mut().find(|family| family.name() == PROCESSOR_TIME);
        if let (Some(family), Some(seconds)) = (family, seconds) {
            let mut counter = Counter::default();
            counter.set_value(seconds);
            let mut metric = Metric::default();
            metric.set_counter(counter);
            family.set_metric(vec![metric]);
        }
        families
    }
}

/// User and system time of `/proc/self/stat` (proc_pid_stat(5)). The name in front may hold anything, parentheses included.
fn processor_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_has_hundredths() {
        let stat = "7 (a) (b) S 1 7 7 0 -1 4194560 100 0 0 0 1234 66 0 0 20 0 1 0 1000 1 1";
        assert_eq!(processor_seconds(stat), Some(13.0));
        assert_eq!(processor_seconds("7 (a"), None);
        let families = Process::this().collect();
        let family = families.iter().find(|family| family.name() == PROCESSOR_TIME).expect("it is collected");
        let counted = family.get_metric()[0].get_counter().get_value();
        let own = processor_seconds(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert!(own >= counted && own - counted < 10.0, "{own} {counted}");
    }
}
