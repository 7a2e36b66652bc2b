//! One connection through the proxy, until it ends by itself or is struck.
//!
//! Its inputs: bytes of the browser, bytes of the gateway, and the test's strikes, which come by the weather.

use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{Direction, Shared, Trouble, Weather};

/// What is forwarded at a time.
const CHUNK_BYTES: usize = 16 * 1_024;

/// The longest head of a request that is looked at.
const MAX_HEAD_BYTES: usize = 64 * 1_024;

/// Forwards a connection until its end.
pub(super) async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let mut weather = shared.weather.subscribe();
    let now = *weather.borrow_and_update();
    let mut gateway = None;
    let mut trouble = if now.silent {
        Trouble::Silence
    } else {
        tokio::select! {
            ended = forward(&mut client, &mut gateway, &shared) => ended,
            struck = struck(&mut weather, now.strikes) => struck,
        }
    };
    while trouble == Trouble::Silence {
        // Whatever both sides say or do now, nobody hears of it.
        let strikes = weather.borrow_and_update().strikes;
        trouble = struck(&mut weather, strikes).await;
    }
    if trouble == Trouble::Reset {
        for stream in [Some(&client), gateway.as_ref()].into_iter().flatten() {
            // A stream that is reset already cannot linger.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Waits until the test strikes what is older than that.
async fn struck(weather: &mut watch::Receiver<Weather>, strikes: u64) -> Trouble {
    let struck = weather.wait_for(|weather| weather.strikes > strikes).await;
    struck.map_or(Trouble::End, |weather| weather.trouble)
}

/// Forwards in both directions; returns how the connection has to end.
async fn forward(client: &mut TcpStream, gateway: &mut Option<TcpStream>, shared: &Shared) -> Trouble {
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") && head.len() < MAX_HEAD_BYTES {
        if !matches!(client.read_buf(&mut head).await, Ok(1..)) {
            return Trouble::End;
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let upgrades = text.to_ascii_lowercase().contains("\r\nupgrade: websocket\r\n");
    shared.saw(|seen| {
        seen.upgrades += usize::from(upgrades);
        seen.heads.push(text);
    });
    let weather = *shared.weather.borrow();
    if upgrades && weather.upgrades_blocked {
        return Trouble::Reset;
    }
    let Ok(stream) = TcpStream::connect(weather.target).await else { return Trouble::Reset };
    let gateway = gateway.insert(stream);
    for stream in [&*client, &*gateway] {
        // Delays are the test's business.
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.split();
    let (from_gateway, to_gateway) = gateway.split();
    let up = pump(head.as_slice().chain(from_client), to_gateway, Direction::Up, shared);
    let down = pump(from_gateway, to_client, Direction::Down, shared);
    match tokio::try_join!(up, down) {
        Ok(_) => Trouble::End,
        Err(trouble) => trouble,
    }
}

/// Forwards one way until its end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    shared: &Shared,
) -> Result<(), Trouble> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = from.read(&mut chunk).await.map_err(|_| Trouble::Reset)?;
        let delay = shared.weather.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if length == 0 {
            // Whoever reads there may have gone already.
            let _ = to.shutdown().await;
            return Ok(());
        }
        let (through, trouble) = shared.carry(direction, length);
        to.write_all(&chunk[..through]).await.map_err(|_| Trouble::Reset)?;
        if let Some(trouble) = trouble {
            shared.saw(|seen| seen.sprung += 1);
            return Err(trouble);
        }
    }
}
