//! The measurements.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::durable::Directory;
use crate::process::Process;
use crate::wire::{Poster, Receiver, find, metric};

pub(crate) const SEND: &str = "/v1/notifications";
pub(crate) const BATCH: &str = "/v1/notifications/batch";

/// Opens sockets for `user-0` to `user-<count>`, so many at the same time.
pub(crate) async fn open(host: &str, count: usize, at_once: usize) -> Vec<Receiver> {
    let gate = Arc::new(Semaphore::new(at_once));
    let mut opening = JoinSet::new();
    for index in 0..count {
        let (gate, host) = (Arc::clone(&gate), host.to_owned());
        opening.spawn(async move {
            let _turn = gate.acquire().await.expect("never closed");
            Receiver::connect(&host, &format!("user-{index}")).await.expect("the gateway takes the socket")
        });
    }
    opening.join_all().await
}

pub(crate) fn names(count: usize) -> String {
    (0..count).map(|index| format!("\"user-{index}\"")).collect::<Vec<_>>().join(",")
}

/// Resident memory per idle session, before and after every session received 1 MiB.
pub(crate) async fn memory() {
    const SESSIONS: usize = 10_000;
    const BURST: usize = 32;
    let process = Process::start();
    // Warm up what the first connections allocate once.
    drop(open(&process.http, 200, 64).await);
    settle(|| async { metric(&process.ops, "gateway_connections").await == 0.0 }).await;
    let empty = process.resident_bytes();
    let receivers = open(&process.http, SESSIONS, 256).await;
    let idle = process.resident_bytes();
    let per_session = |bytes: u64| bytes.saturating_sub(empty) as f64 / SESSIONS as f64;
    println!("memory: {SESSIONS} idle sessions: {:.0} B each (RSS {empty} -> {idle})", per_session(idle));

    let body = "x".repeat(32_500);
    let notification = format!(r#"{{"to":[{}],"body":"{body}","ttl_seconds":20}}"#, names(SESSIONS));
    let reading = receivers.into_iter().map(|mut receiver| {
        tokio::spawn(async move {
            for _ in 0..BURST {
                receiver.text().await.expect("the burst arrives");
            }
            receiver
        })
    });
    let reading: Vec<_> = reading.collect();
    let mut poster = Poster::connect(&process.http).await.expect("it accepts");
    for _ in 0..BURST {
        poster.post(SEND, &notification).await.expect("it takes the burst");
    }
    let mut receivers = Vec::new();
    for one in reading {
        receivers.push(one.await.expect("it reads to the end"));
    }
    drop(poster);
    println!(
        "memory: after the burst of {BURST} x 32.5 kB each: {:.0} B each",
        per_session(process.resident_bytes())
    );
    settle(|| async { metric(&process.ops, "gateway_mailbox_depth").await == 0.0 }).await;
    // Entries leave the log within a second of their expiry; freed pages go back a little later.
    std::thread::sleep(Duration::from_secs(3));
    println!("memory: once the burst has expired: {:.0} B each", per_session(process.resident_bytes()));
    drop(receivers);
    settle(|| async { metric(&process.ops, "gateway_connections").await == 0.0 }).await;
    std::thread::sleep(Duration::from_secs(2));
    println!("memory: after every session closed: RSS {} (started with {empty})", process.resident_bytes());
}

pub(crate) async fn settle<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never settled");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How fast 10,000 sockets are open, 512 at the same time.
pub(crate) async fn connects() {
    const SESSIONS: usize = 10_000;
    let process = Process::start();
    let before = process.processor_time();
    let started = Instant::now();
    let receivers = open(&process.http, SESSIONS, 512).await;
    let elapsed = started.elapsed();
    let used = process.processor_time() - before;
    println!(
        "connects: {SESSIONS} in {:.2} s, {:.0}/s, 0 refused; gateway {:.0} us user + {:.0} us system each",
        elapsed.as_secs_f64(),
        SESSIONS as f64 / elapsed.as_secs_f64(),
        used.user * 1e6 / SESSIONS as f64,
        used.system * 1e6 / SESSIONS as f64,
    );
    drop(receivers);
}

/// POSTs from 64 connections, closed loop, to users who are away: single ones, then batches of 100.
pub(crate) async fn post() {
    let process = Process::start();
    let single = |index: usize| {
        format!(
            r#"{{"to":["user-{}"],"from":"alice","title":"Hello","body":"Your parcel is at the door.","ttl_seconds":60}}"#,
            index % 1_000
        )
    };
    let batch = |index: usize| {
        format!("[{}]", (0..100).map(|item| single(index * 100 + item)).collect::<Vec<_>>().join(","))
    };
    for (name, path, body, items) in [
        ("single", SEND, &single as &(dyn Fn(usize) -> String + Sync), 1),
        ("batch of 100", BATCH, &batch, 100),
    ] {
        let before = process.processor_time();
        let started = Instant::now();
        let (requests, latency) = closed_loop(&process.http, path, body, 64, Duration::from_secs(5)).await;
        let elapsed = started.elapsed().as_secs_f64();
        let used = process.processor_time() - before;
        let notifications = (requests * items) as f64;
        println!(
            "post {name}: {:.0} notifications/s; {:.0} per core-second of the gateway ({:.2} us user + {:.2} us system each); \
             request p50 {} us, p99 {} us, p99.9 {} us",
            notifications / elapsed,
            notifications / (used.user + used.system),
            used.user * 1e6 / notifications,
            used.system * 1e6 / notifications,
            latency.value_at_quantile(0.5),
            latency.value_at_quantile(0.99),
            latency.value_at_quantile(0.999),
        );
    }
}

/// Requests answered and how long each took, in microseconds.
pub(crate) async fn closed_loop(
    host: &str,
    path: &str,
    body: &(dyn Fn(usize) -> String + Sync),
    connections: usize,
    duration: Duration,
) -> (usize, Histogram<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut loops = JoinSet::new();
    for index in 0..connections {
        let mut poster = Poster::connect(host).await.expect("it accepts");
        let requests: Vec<Vec<u8>> =
            (0..16).map(|turn| poster.request(path, &body(index * 16 + turn))).collect();
        let stop = Arc::clone(&stop);
        loops.spawn(async move {
            let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("three digits");
            for request in requests.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let started = Instant::now();
                poster.send(request).await.expect("it answers");
                latency
                    .saturating_record(u64::try_from(started.elapsed().as_micros()).expect("a short time"));
            }
            latency
        });
    }
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("three digits");
    for one in loops.join_all().await {
        all.add(one).expect("the same range");
    }
    (usize::try_from(all.len()).expect("a count"), all)
}

/// Opens so many sessions, which count what they receive as long as they live.
pub(crate) async fn receive(host: &str, sessions: usize, received: &Arc<AtomicU64>) {
    for mut receiver in open(host, sessions, 64).await {
        let received = Arc::clone(received);
        tokio::spawn(async move {
            while receiver.text().await.is_ok() {
                received.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// The gateway's processor time per frame, to 1,000 sessions: one notification at a time, and 16 in a burst.
pub(crate) async fn push() {
    const SESSIONS: usize = 1_000;
    let process = Process::start();
    let received = Arc::new(AtomicU64::new(0));
    receive(&process.http, SESSIONS, &received).await;
    let one = format!(r#"{{"to":[{}],"body":"{}","ttl_seconds":60}}"#, names(SESSIONS), "x".repeat(100));
    let burst = format!("[{}]", vec![one.as_str(); 16].join(","));
    let mut poster = Poster::connect(&process.http).await.expect("it accepts");
    for (name, path, body, depth, rounds) in
        [("alone", SEND, &one, 1, 300), ("burst of 16", BATCH, &burst, 16, 60)]
    {
        let before = process.processor_time();
        let start = received.load(Ordering::Relaxed);
        for round in 1..=rounds {
            poster.post(path, body).await.expect("it takes it");
            let expected = start + (SESSIONS * depth * round) as u64;
            while received.load(Ordering::Relaxed) < expected {
                tokio::task::yield_now().await;
            }
        }
        let used = process.processor_time() - before;
        let frames = (SESSIONS * depth * rounds) as f64;
        println!(
            "push {name}: {:.2} us user + {:.2} us system a frame ({frames:.0} frames to {SESSIONS} sessions)",
            used.user * 1e6 / frames,
            used.system * 1e6 / frames,
        );
    }
}

/// POST to frame at 2,000/s over 1,000 sockets, measured from the intended time.
pub(crate) async fn latency() {
    let process = Process::start();
    latency_of("memory", &process, &process, 2_000).await;
    let directory = Directory::new();
    let process = Process::start_on_disk(&directory.0);
    latency_of("disk", &process, &process, 2_000).await;
}

/// POST to frame at so many a second: sent to one gateway, received from another one, or the same.
pub(crate) async fn latency_of(log: &str, asked: &Process, pushing: &Process, rate: u32) {
    const SESSIONS: usize = 1_000;
    const SECONDS: u32 = 10;
    let origin = Instant::now();
    let (samples, mut received) = mpsc::unbounded_channel();
    for mut receiver in open(&pushing.http, SESSIONS, 64).await {
        let samples = samples.clone();
        tokio::spawn(async move {
            while let Ok(frame) = receiver.text().await {
                let now = nanoseconds(origin);
                let stamp = find(frame, b"\"body\":\"").map(|start| &frame[start + 8..start + 8 + 20]);
                let intended = std::str::from_utf8(stamp.expect("a stamp")).expect("digits").parse::<u64>();
                // The main task has gone once it has its samples.
                let _ = samples.send(now.saturating_sub(intended.expect("digits")));
            }
        });
    }
    // Ticks come from a thread: the runtime's own timers are a millisecond coarse.
    let (ticks, mut due) = mpsc::unbounded_channel::<(u32, u64)>();
    let base = nanoseconds(origin) + 100_000_000;
    std::thread::spawn(move || {
        for tick in 0..rate * SECONDS {
            let intended = base + u64::from(tick) * 1_000_000_000 / u64::from(rate);
            std::thread::sleep(Duration::from_nanos(intended.saturating_sub(nanoseconds(origin))));
            if ticks.send((tick, intended)).is_err() {
                return;
            }
        }
    });
    let (idle, mut free) = mpsc::unbounded_channel();
    for _ in 0..64 {
        idle.send(Poster::connect(&asked.http).await.expect("it accepts")).expect("open");
    }
    let before = asked.processor_time();
    let sending = tokio::spawn(async move {
        while let Some((tick, intended)) = due.recv().await {
            let mut poster: Poster = free.recv().await.expect("posters come back");
            let idle = idle.clone();
            tokio::spawn(async move {
                let user = tick as usize % SESSIONS;
                let body = format!(r#"{{"to":["user-{user}"],"body":"{intended:020}","ttl_seconds":60}}"#);
                // The run is over once the last one has arrived, before its sender has its answer.
                if poster.post(SEND, &body).await.is_ok() {
                    let _ = idle.send(poster);
                }
            });
        }
    });
    let mut push = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("three digits");
    for index in 0..rate * SECONDS {
        let sample = received.recv().await.expect("every notification arrives");
        // The first second warms up.
        if index >= rate {
            push.saturating_record(sample / 1_000);
        }
    }
    sending.abort();
    let used = asked.processor_time() - before;
    println!(
        "latency, log {log}, at {rate}/s over {SESSIONS} sockets, POST (intended) to frame read: p50 {} us, p90 {} us, p99 {} us, p99.9 {} us, \
         max {} us; gateway {:.1} % of a core; {} of {} arrived",
        push.value_at_quantile(0.5),
        push.value_at_quantile(0.9),
        push.value_at_quantile(0.99),
        push.value_at_quantile(0.999),
        push.max(),
        (used.user + used.system) * 100.0 / f64::from(SECONDS),
        rate * SECONDS,
        rate * SECONDS,
    );
}

/// What a send to 10,000 users who are away does to the pushes of somebody else.
pub(crate) async fn delay() {
    let process = Process::start();
    let many = format!(r#"{{"to":[{}],"body":"{}","ttl_seconds":60}}"#, names(10_000), "x".repeat(100));
    let mut receiver = Receiver::connect(&process.http, "somebody").await.expect("it accepts");
    let mut sender = Poster::connect(&process.http).await.expect("it accepts");
    for (name, load) in [("alone", false), ("beside sends to 10,000 users", true)] {
        let stop = Arc::new(AtomicBool::new(false));
        let mut poster = Poster::connect(&process.http).await.expect("it accepts");
        let (stopped, body) = (Arc::clone(&stop), many.clone());
        let beside = tokio::spawn(async move {
            let mut sends = 0;
            while load && !stopped.load(Ordering::Relaxed) {
                poster.post(SEND, &body).await.expect("it takes it");
                sends += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            sends
        });
        let mut push = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("three digits");
        for _ in 0..2_000 {
            let started = Instant::now();
            sender
                .post(SEND, r#"{"to":["somebody"],"body":"x","ttl_seconds":60}"#)
                .await
                .expect("it takes it");
            receiver.text().await.expect("it arrives");
            push.saturating_record(u64::try_from(started.elapsed().as_micros()).expect("a short time"));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.store(true, Ordering::Relaxed);
        let sends = beside.await.expect("it ends");
        println!(
            "delay: a push {name} ({sends} sends): p50 {} us, p99 {} us, p99.9 {} us, max {} us",
            push.value_at_quantile(0.5),
            push.value_at_quantile(0.99),
            push.value_at_quantile(0.999),
            push.max(),
        );
    }
}

fn nanoseconds(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_nanos()).expect("a short time")
}
