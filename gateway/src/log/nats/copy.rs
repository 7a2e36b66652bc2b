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
use super::fence::{Checkpoint, Fence, Tag};
use super::stream::{Message, Standing, Stream};
use crate::clock::Clock;
use crate::domain::Epoch;
use crate::log::{DiskLog, DiskOptions, Log, LogEntry, OpenError, ReadError};

/// The file that says that a directory is a copy, and of what: nothing else is ever removed.
const MARK: &str = "copy-of";

/// The file that says that the copy has what the stream has not.
const CONTRADICTED: &str = "contradicted";

/// Bytes in front of a payload: writer, batch and place, and whether it counts.
const TAG_BYTES: usize = 8 + 4 + 4 + 1;

/// How long a log of this process that is just being closed may hold the directory.
const CLOSING: Duration = Duration::from_secs(3);

/// How long a stream may seem to end before what it once held.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_secs(15);

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
        // Until a new epoch has begun, by this node or another one that has seen it, too.
        if epoch == standing.epoch.to_string() {
            return Ok(Found::Contradicted);
        }
        remove(directory).await?;
    }
    let why = match begin().await {
        Ok(copy) => {
            let why = match judge_patiently(&copy, stream, standing).await {
                Ok(Judgement::Same) => {
                    copy.trim(standing.first - 1).await;
                    return Ok(Found::Good(copy));
                }
                Ok(Judgement::Useless(why)) => why.to_owned(),
                Ok(judged @ (Judgement::Short | Judgement::Contradicted(_))) => {
                    tracing::error!(why = judged.why(), "positions from before mean nothing now");
                    contradict(directory, copy.epoch());
                    drop_copy(copy).await;
                    return Ok(Found::Contradicted);
                }
                Err(NatsError::Damaged(why)) => why,
                Err(error) => return Err(error),
            };
            drop_copy(copy).await;
            why
        }
        Err(NatsError::Copy(error)) if !matches!(error, OpenError::InUse(_)) => error.to_string(),
        Err(error) => return Err(error),
    };
    tracing::warn!(why, "the copy of the stream is fetched again");
    remove(directory).await?;
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

impl Judgement {
    /// What is wrong with it, if something is.
    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Short => "the stream ends before what it once held",
            Self::Useless(why) | Self::Contradicted(why) => why,
        }
    }
}

/// Like [`judge`], but waits for a leader that does not have everything yet.
async fn judge_patiently(
    copy: &DiskLog,
    stream: &Stream,
    standing: Standing,
) -> Result<Judgement, NatsError> {
    let deadline = Instant::now() + SHORT_PATIENCE;
    let mut judged = judge(copy, copy.reach(), stream, standing).await?;
    while matches!(judged, Judgement::Short) && Instant::now() < deadline {
        tokio::time::sleep(RETRY).await;
        let standing = stream.standing().await.map_err(NatsError::Asked)?;
        judged = judge(copy, copy.reach(), stream, standing).await?;
    }
    Ok(judged)
}

/// Compares a copy with the stream: what the copy had at some moment before the stream was asked. Between the two it may grow.
pub(super) async fn judge(
    copy: &DiskLog,
    (first, head): (u64, u64),
    stream: &Stream,
    standing: Standing,
) -> Result<Judgement, NatsError> {
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
    let ours = copy.read(vec![head]).await.map_err(|ReadError(why)| NatsError::Damaged(why))?;
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

/// Whether a message is what the copy has of it. Of one that did not count the copy has no payload.
pub(super) fn is_same(ours: &LogEntry, theirs: &Message) -> bool {
    let Kept { tag, counts, payload } = unpack(&ours.payload);
    // Timestamps of the copy never step back; where servers' do, theirs is the earlier one.
    tag == theirs.tag && (!counts || payload == theirs.payload) && theirs.timestamp_ms <= ours.timestamp_ms
}

/// What a copy has of a message.
pub(super) struct Kept {
    pub(super) tag: Option<Tag>,
    pub(super) counts: bool,
    pub(super) payload: Bytes,
}

/// What a copy keeps of a message.
pub(super) fn pack(tag: Option<Tag>, counts: bool, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(TAG_BYTES + payload.len());
    out.put_u64_le(tag.map_or(0, |tag| tag.writer));
    out.put_u32_le(tag.map_or(0, |tag| tag.batch));
    out.put_u32_le(tag.map_or(0, |tag| tag.place));
    out.put_u8(u8::from(counts));
    out.put_slice(payload);
    out.freeze()
}

/// The other way round; the payload shares memory.
pub(super) fn unpack(kept: &Bytes) -> Kept {
    let mut rest = kept.clone();
    let (writer, batch, place) = (rest.get_u64_le(), rest.get_u32_le(), rest.get_u32_le());
    let counts = rest.get_u8() == 1;
    // Batches and places count from 1.
    Kept { tag: (place > 0).then_some(Tag { writer, batch, place }), counts, payload: rest }
}

/// An entry as the log shows it.
pub(super) fn shown(kept: LogEntry) -> LogEntry {
    LogEntry { payload: unpack(&kept.payload).payload, ..kept }
}

/// Recalls how far each writer has come, which takes one look at everything behind the checkpoint; also the newest timestamp.
/// `first_ms` is the time of the stream's first entry, if the copy has none.
pub(super) async fn recall(
    copy: &DiskLog,
    checkpoint: Checkpoint,
    first_ms: u64,
) -> Result<(Fence, u64), NatsError> {
    let (first, head) = copy.reach();
    let kept = copy.read(vec![first]).await.map_err(|ReadError(why)| NatsError::Damaged(why))?;
    let begins_ms = kept.into_iter().flatten().next().map_or(first_ms, |entry| entry.timestamp_ms);
    let mut known = Checkpoint { fence: checkpoint.clone().fence_at(first, begins_ms), ..checkpoint };
    follow(copy, &mut known, head).await?;
    Ok((known.fence, known.newest_ms))
}

/// Moves a checkpoint on to `through`, as far as the copy has what lies between.
pub(super) async fn follow(
    copy: &DiskLog,
    checkpoint: &mut Checkpoint,
    through: u64,
) -> Result<(), NatsError> {
    let damaged = |error: crate::log::TailError| NatsError::Damaged(error.to_string());
    let (first, head) = copy.reach();
    let mut next = first.max(checkpoint.through + 1);
    let through = through.min(head);
    if next > through {
        return Ok(());
    }
    let mut tail = copy.tail(next - 1).map_err(damaged)?;
    while next <= through {
        for entry in tail.next().await.map_err(damaged)? {
            if entry.number > through {
                break;
            }
            next = entry.number + 1;
            checkpoint.newest_ms = checkpoint.newest_ms.max(entry.timestamp_ms);
            if let Kept { tag: Some(tag), counts: true, .. } = unpack(&entry.payload) {
                checkpoint.fence.remember(tag, entry.timestamp_ms);
            }
        }
    }
    checkpoint.through = through;
    Ok(())
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
async fn remove(directory: &Path) -> Result<(), NatsError> {
    let failed = |path: PathBuf| move |error| NatsError::File { path, error };
    // Whoever has it open, be it this process for a moment more, must not lose it under its hands.
    let path = directory.join("lock");
    let lock =
        fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed(path))?;
    let deadline = Instant::now() + CLOSING;
    while lock.try_lock().is_err() {
        if Instant::now() >= deadline {
            return Err(NatsError::Copy(OpenError::InUse(directory.to_owned())));
        }
        tokio::time::sleep(RETRY).await;
    }
    // In this order: an interrupted removal leaves a copy that is found damaged.
    let path = directory.join("entries");
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(path)(error)),
        _ => {}
    }
    for file in ["durable", "identity", CONTRADICTED] {
        let path = directory.join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(path)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Closes a copy that nobody else holds.
async fn drop_copy(copy: Arc<DiskLog>) {
    let closing = tokio::task::spawn_blocking(move || drop(copy));
    closing.await.expect("closing a log does not panic");
}
