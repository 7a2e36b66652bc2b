//! Frames of every illegal kind, and what each has to be closed with.

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::target::Target;
use super::wire::{CLOSE, FINAL, TEXT, Tally, Wire, masked, somebody, tally, told};

const BINARY: u8 = 0x2;
const PING: u8 = 0x9;

/// The largest frame a client may send.
const MAX_INBOUND_BYTES: usize = 4_096;

/// A kind: its name, its bytes, the code it has to be closed with.
type Kind = (&'static str, Vec<u8>, u16);

fn kinds() -> Vec<Kind> {
    let whole = |first: u8, payload: &[u8]| masked(FINAL | first, payload);
    let part = vec![b' '; MAX_INBOUND_BYTES / 2];
    let many_parts = [masked(TEXT, b"{"), masked(0, b" ").repeat(MAX_INBOUND_BYTES)].concat();
    let nested = format!("{}{}", r#"{"type":"dance","x":"#, "[".repeat(4_000));
    vec![
        ("an unknown data opcode", whole(0x3, b"{}"), 1002),
        ("an unknown control opcode", whole(0xb, b""), 1002),
        ("an unmasked text", vec![FINAL | TEXT, 2, b'{', b'}'], 1002),
        ("the first reserved bit", whole(TEXT | 0x40, b"{}"), 1002),
        ("the second reserved bit", whole(TEXT | 0x20, b"{}"), 1002),
        ("the third reserved bit", whole(TEXT | 0x10, b"{}"), 1002),
        ("a fragmented ping", masked(PING, b"half"), 1002),
        ("a fragmented close", masked(CLOSE, &[3, 232]), 1002),
        ("a ping of 126 bytes", whole(PING, &[b'x'; 126]), 1002),
        ("a continuation of nothing", whole(0x0, b"{}"), 1002),
        ("a message within another", [masked(TEXT, b"{"), whole(TEXT, b"{}")].concat(), 1002),
        ("half a close code", whole(CLOSE, &[3]), 1002),
        ("binary", whole(BINARY, b"{}"), 1003),
        ("an unknown type", whole(TEXT, br#"{"type":"dance"}"#), 1003),
        ("no JSON", whole(TEXT, b"hello"), 1007),
        ("JSON nested without end", whole(TEXT, nested.as_bytes()), 1007),
        ("no UTF-8", whole(TEXT, b"\xff\xfe"), 1007),
        ("one byte too many", whole(TEXT, &[b' '; MAX_INBOUND_BYTES + 1]), 1009),
        (
            "a frame that announces 4 GiB",
            [&[FINAL | TEXT, FINAL | 127][..], &[0, 0, 0, 1, 0, 0, 0, 0], &[0; 4]].concat(),
            1009,
        ),
        (
            "fragments that are too large together",
            [masked(TEXT, &part), masked(0, &part), whole(0x0, b" ")].concat(),
            1009,
        ),
        ("fragments without end", many_parts, 1009),
    ]
}

/// So many rounds, in each of which one socket sends each kind; what is not closed as it has to be is tallied by name.
pub(crate) async fn illegal(target: Target, rounds: usize, until: Instant) -> Tally {
    let mut attackers = JoinSet::new();
    for (number, (name, bytes, code)) in kinds().into_iter().enumerate() {
        let target = target.clone();
        attackers.spawn(async move {
            let user = format!("mallory-{number}");
            let credential = target.user(&user);
            let mut seen = Vec::new();
            for _ in 0..rounds {
                let attempt = async {
                    let mut wire = Wire::connect(somebody(number), target.http).await?;
                    wire.open(&user, &credential).await?;
                    wire.send(&bytes).await?;
                    let told = wire.close_code().await?;
                    wire.gone().await;
                    Ok(told)
                };
                let told = told(attempt.await);
                seen.push(if told == code.to_string() { told } else { format!("{name}: {told}") });
                if Instant::now() > until {
                    break;
                }
            }
            seen
        });
    }
    tally(attackers.join_all().await.into_iter().flatten())
}
