//! The local copy of the stream: a log on disk whose entries have the stream's numbers, and which is not synced.
//!
//! It is kept from one start to the next if it is a part of the stream as that is now; otherwise it is removed and fetched
//! again. Beside an entry's payload it keeps the tag by which later messages of the same batch are judged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::time::Instant;

use super::NatsError;
use super::fence::{Fence, MEMORY_MS, Tag};
use super::stream::{Message, Standing, Stream};
use crate::clock::Clock;
use crate::domain::Epoch;
use crate::log::{DiskLog, DiskOptions, Log, LogEntry, OpenError, ReadError};

/// The file that says that a directory is a copy, and of what: nothing else is ever removed.
const MARK: &str = "copy-of";

/// The file that says that the copy has what the stream has not.
const CONTRADICTED: &str = "contradicted";

/// Bytes in front of a payload: batch and place.
const TAG_BYTES: usize = 8 + 4;

/// How long a log of this process that is just being closed may hold the directory.
const CLOSING: Duration = Duration::from_secs(3);

/// How long a stream may seem to end before what it once held.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at it.
const RETRY: Duration = Duration::from_millis(50);

/// What became of the copy.
pub(super) enum Found {
    /// It goes on, or begins.
    Good(Arc<DiskLog>),
    /// It is gone: it held entries that the stream, which calls itself the same, does not have. Others have seen them, too.
    Contradicted,
}

/// Opens the copy of a stream in a directory, as far as it can be used.
pub(super) async fn open(
    directory: &Path,
    name: &str,
    stream: &Stream,
    standing: Standing,
    clock: &Clock,
) -> Result<Found, NatsError> {
    let begin = || async { open_at(directory, name, standing, clock).await.map(Arc::new) };
    if !directory.join(MARK).exists() {
        return Ok(Found::Good(begin().await?));
    }
    if let Ok(epoch) = fs::read_to_string(directory.join(CONTRADICTED)) {
        remove(directory)?;
        // Unless another node, which has seen it, too, was faster.
        if epoch == standing.epoch.to_string() {
            return Ok(Found::Contradicted);
        }
    }
    let why = match begin().await {
        Ok(copy) => match judge_patiently(&copy, stream, standing).await? {
            Judgement::Short => {
                tracing::error!(
                    "the stream ends before what it once held: positions from before mean nothing now"
                );
                drop_copy(copy).await;
                remove(directory)?;
                return Ok(Found::Contradicted);
            }
            Judgement::Same => {
                copy.trim(standing.first - 1).await;
                return Ok(Found::Good(copy));
            }
            Judgement::Useless(why) => why,
            Judgement::Contradicted(why) => {
                tracing::error!(why, "the stream is not what it was: positions from before mean nothing now");
                drop_copy(copy).await;
                remove(directory)?;
                return Ok(Found::Contradicted);
            }
        }
        .to_owned(),
        Err(NatsError::Copy(
            error @ (OpenError::DamagedEntry(_)
            | OpenError::DamagedFile { .. }
            | OpenError::BelowDurableHead { .. }
            | OpenError::Database { .. }),
        )) => error.to_string(),
        Err(error) => return Err(error),
    };
    tracing::warn!(why, "the copy of the stream is fetched again");
    remove(directory)?;
    Ok(Found::Good(begin().await?))
}

/// What a copy is worth.
pub(super) enum Judgement {
    /// A part of the stream, up to its head.
    Same,
    /// Of another history, or too old.
    Useless(&'static str),
    /// It has more than the stream. A leader that has just been elected may not have everything yet; if that lasts, the stream
    /// has lost it.
    Short,
    /// Of this history, but the stream has lost or changed what it has.
    Contradicted(&'static str),
}

/// Like [`judge`], but waits for a leader that does not have everything yet.
async fn judge_patiently(
    copy: &DiskLog,
    stream: &Stream,
    standing: Standing,
) -> Result<Judgement, NatsError> {
    let deadline = Instant::now() + SHORT_PATIENCE;
    let mut judged = judge(copy, stream, standing).await?;
    while matches!(judged, Judgement::Short) && Instant::now() < deadline {
        tokio::time::sleep(RETRY).await;
        judged = judge(copy, stream, stream.standing().await.map_err(NatsError::Asked)?).await?;
    }
    Ok(judged)
}

/// Compares a copy with the stream.
pub(super) async fn judge(
    copy: &DiskLog,
    stream: &Stream,
    standing: Standing,
) -> Result<Judgement, NatsError> {
    let (first, head) = copy.reach();
    if copy.epoch() != standing.epoch {
        return Ok(Judgement::Useless("it is of another epoch"));
    }
    if head > standing.head {
        return Ok(Judgement::Short);
    }
    if head + 1 < standing.first {
        return Ok(Judgement::Useless("the stream begins behind it"));
    }
    if head < first || head < standing.first {
        return Ok(Judgement::Same);
    }
    let theirs = stream.get(head).await.map_err(NatsError::Asked)?;
    let ours = copy.read(vec![head]).await.map_err(|ReadError(why)| NatsError::Asked(why))?;
    let (Some(theirs), Some(Some(ours))) = (theirs, ours.first()) else {
        // Trimmed between the two questions; asked again it is behind the beginning.
        return Ok(Judgement::Same);
    };
    if is_same(ours, &theirs) {
        Ok(Judgement::Same)
    } else {
        Ok(Judgement::Contradicted("the stream has another entry where it had this one"))
    }
}

/// Whether a message is what the copy has of it. Of one that did not count the copy has the number only.
pub(super) fn is_same(ours: &LogEntry, theirs: &Message) -> bool {
    let (tag, payload) = unpack(&ours.payload);
    tag.is_none() || (tag == theirs.tag && payload == theirs.payload)
}

/// What a copy keeps of an entry.
pub(super) fn pack(tag: Option<Tag>, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(TAG_BYTES + payload.len());
    out.put_u64_le(tag.map_or(0, |tag| tag.batch));
    out.put_u32_le(tag.map_or(0, |tag| tag.place));
    out.put_slice(payload);
    out.freeze()
}

/// The other way round; the payload shares memory.
pub(super) fn unpack(kept: &Bytes) -> (Option<Tag>, Bytes) {
    let mut rest = kept.clone();
    let (batch, place) = (rest.get_u64_le(), rest.get_u32_le());
    // Places count from 1.
    ((place > 0).then_some(Tag { batch, place }), rest)
}

/// An entry as the log shows it.
pub(super) fn shown(kept: LogEntry) -> LogEntry {
    LogEntry { payload: unpack(&kept.payload).1, ..kept }
}

/// Recalls the batches of which messages may still come, from the newest entries; also the newest timestamp.
pub(super) async fn recall(copy: &DiskLog) -> Result<(Fence, u64), NatsError> {
    let (first, head) = copy.reach();
    if head < first {
        return Ok((Fence::default(), 0));
    }
    let newest_ms = timestamp(copy, head).await?;
    // The first one that is young enough, by halving what is left: timestamps never step back.
    let (mut from, mut until) = (first, head);
    while from < until {
        let middle = from + (until - from) / 2;
        if timestamp(copy, middle).await? + MEMORY_MS < newest_ms {
            from = middle + 1;
        } else {
            until = middle;
        }
    }
    let first_ms = timestamp(copy, first).await?;
    let is_cut = first > 1 && newest_ms <= first_ms + MEMORY_MS;
    let mut fence = if is_cut { Fence::cut_at(first_ms) } else { Fence::default() };
    let ended = |error: crate::log::TailError| NatsError::Asked(error.to_string());
    let mut tail = copy.tail(from - 1).map_err(ended)?;
    let mut next = from;
    while next <= head {
        for entry in tail.next().await.map_err(ended)? {
            next = entry.number + 1;
            if let Some(tag) = unpack(&entry.payload).0 {
                fence.remember(tag, entry.timestamp_ms);
            }
        }
    }
    Ok((fence, newest_ms))
}

async fn timestamp(copy: &DiskLog, number: u64) -> Result<u64, NatsError> {
    let read = copy.read(vec![number]).await.map_err(|ReadError(why)| NatsError::Asked(why))?;
    let entry = read.into_iter().next().flatten();
    entry
        .map(|entry| entry.timestamp_ms)
        .ok_or_else(|| NatsError::Asked("an entry of the copy is gone".to_owned()))
}

async fn open_at(
    directory: &Path,
    name: &str,
    standing: Standing,
    clock: &Clock,
) -> Result<DiskLog, NatsError> {
    mark(directory, name)?;
    let options = || DiskOptions {
        synced: false,
        begins_at: standing.first,
        // It cannot be refused here: what is copied was accepted.
        reserve_bytes: 0,
        ..DiskOptions::new(directory, standing.epoch)
    };
    let deadline = Instant::now() + CLOSING;
    loop {
        let (options, clock) = (options(), clock.clone());
        let opening = tokio::task::spawn_blocking(|| DiskLog::open(options, clock));
        match opening.await.expect("opening a log does not panic") {
            Err(OpenError::InUse(_)) if Instant::now() < deadline => {
                tokio::time::sleep(RETRY).await;
            }
            opened => return opened.map_err(NatsError::Copy),
        }
    }
}

/// Claims an empty directory, or makes sure that it was claimed for this stream.
fn mark(directory: &Path, name: &str) -> Result<(), NatsError> {
    let failed = |error| NatsError::File { path: directory.to_owned(), error };
    fs::create_dir_all(directory).map_err(failed)?;
    let path = directory.join(MARK);
    let said = format!("stream {name}\n");
    match fs::read_to_string(&path) {
        Ok(found) if found == said => Ok(()),
        Ok(_) => Err(NatsError::NotACopy { directory: directory.to_owned(), name: name.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::read_dir(directory).map_err(failed)?.next().is_some() {
                return Err(NatsError::NotACopy { directory: directory.to_owned(), name: name.to_owned() });
            }
            fs::write(&path, said).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Notes that the copy has what the stream has not: the next one begins anew, in a new epoch.
pub(super) fn contradict(directory: &Path, epoch: Epoch) {
    if let Err(error) = fs::write(directory.join(CONTRADICTED), epoch.to_string()) {
        tracing::error!(%error, directory = %directory.display(), "remove the copy of the stream by hand");
    }
}

/// Notes that the copy cannot be used any more, although the stream is what it was.
pub(super) fn give_up(directory: &Path) {
    // What cannot be written now is found damaged again.
    let _ = fs::write(directory.join(CONTRADICTED), "damaged");
}

/// Removes the copy, but not its mark.
fn remove(directory: &Path) -> Result<(), NatsError> {
    let failed = |path: PathBuf| move |error| NatsError::File { path, error };
    for file in ["identity", "durable", CONTRADICTED] {
        let path = directory.join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(path)(error)),
            _ => {}
        }
    }
    let path = directory.join("entries");
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

/// Closes a copy that nobody else holds.
async fn drop_copy(copy: Arc<DiskLog>) {
    let closing = tokio::task::spawn_blocking(move || drop(copy));
    closing.await.expect("closing a log does not panic");
}
