//! Detects ranks that went missing, by heartbeats over TCP.
//!
//! A collective operation waits forever for a rank that is gone, and MPI does not say which one it
//! is. Every rank therefore keeps a TCP connection to rank 0, on its own thread, and sends a
//! heartbeat every [`BEAT`]. If a connection ends, or is silent for [`SILENCE`], its rank is
//! missing: rank 0 tells all others, and each ends with that message. A rank that ends because of
//! an error sends the error first.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::World;
use crate::error::TrainError;

/// Time between two heartbeats.
pub const BEAT: Duration = Duration::from_secs(2);
/// A rank without a heartbeat for this long is missing.
pub const SILENCE: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where rank 0 listens.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Hub {
    addresses: Vec<IpAddr>,
    port: u16,
    /// A secret of the run, unknown to other programs.
    token: String,
    host: String,
}

/// A message, sent as one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Hello {
        token: String,
        rank: usize,
        host: String,
    },
    Alive,
    /// From a rank to rank 0: the rank ends, for this reason.
    Leaving(String),
    /// From rank 0: the run is over, for this reason.
    Lost(String),
    Done,
}

/// A callback that is called once, with the reason.
type OnLost = Box<dyn Fn(&str) + Send + Sync>;

struct State {
    is_hub: bool,
    name: String,
    peers: Mutex<Vec<TcpStream>>,
    /// Whether the run is over, for whatever reason.
    over: AtomicBool,
    on_lost: OnLost,
}

/// Watches the other ranks.
pub struct Monitor {
    state: Option<Arc<State>>,
}

impl Monitor {
    /// Connects all ranks. From now on, `on_lost` is called on another thread when one goes
    /// missing. With a single rank, nothing happens.
    ///
    /// # Errors
    /// On every rank, if one cannot reach rank 0.
    pub fn start(world: &World, on_lost: impl Fn(&str) + Send + Sync + 'static) -> Result<Self, TrainError> {
        if world.size() == 1 {
            return Ok(Self { state: None });
        }
        let name = format!("rank {} ({})", world.rank(), world.host());
        let listener = world.all_or_none(if world.is_main() { listen().map(Some) } else { Ok(None) })?;
        let hub = match &listener {
            Some(listener) => Hub {
                addresses: addresses(),
                port: listener.local_addr().map_or(0, |address| address.port()),
                token: format!(
                    "{:032x}",
                    u128::from(rand::rng().next_u64()) << 64 | u128::from(rand::rng().next_u64())
                ),
                host: name.clone(),
            },
            None => Hub::default(),
        };
        let hub = world.broadcast(&hub)?;
        let state = State {
            is_hub: world.is_main(),
            name: name.clone(),
            peers: Mutex::default(),
            over: AtomicBool::new(false),
            on_lost: Box::new(on_lost),
        };
        let state = Arc::new(state);
        let connected = match listener {
            Some(listener) => accept(&state, &listener, &hub, world.size() - 1),
            None => join(&state, &hub, world.rank(), name),
        };
        world.all_or_none(connected)?;
        let beating = Arc::downgrade(&state);
        std::thread::spawn(move || {
            while let Some(state) = beating.upgrade().filter(|state| !state.over.load(Ordering::SeqCst)) {
                state.send(&Message::Alive);
                drop(state);
                std::thread::sleep(BEAT);
            }
        });
        Ok(Self { state: Some(state) })
    }

    /// Stops watching. Every rank must call it, after the last collective operation.
    pub fn finish(self) {
        self.end(&Message::Done);
    }

    /// Stops watching because this rank ends for `reason`; the others are told, and end, too.
    pub fn leave(self, reason: &str) {
        if let Some(state) = &self.state {
            let sentence = format!("{} stopped: {reason}", state.name);
            let message = if state.is_hub { Message::Lost(sentence) } else { Message::Leaving(sentence) };
            self.end(&message);
        }
    }

    fn end(&self, last: &Message) {
        if let Some(state) = &self.state
            && !state.over.swap(true, Ordering::SeqCst)
        {
            state.send(last);
        }
    }
}

impl State {
    fn peers(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: &Message) {
        // A peer that cannot be reached is detected by its silence.
        self.peers().iter_mut().for_each(|peer| _ = send(peer, message));
    }

    /// Ends the run; later calls do nothing.
    fn lost(&self, sentence: &str) {
        if self.over.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.is_hub {
            self.send(&Message::Lost(sentence.to_owned()));
        }
        (self.on_lost)(sentence);
    }

    /// Listens to the peer called `name` until either side is done.
    fn listen_to(&self, lines: &mut BufReader<TcpStream>, name: &str) {
        loop {
            match receive(lines) {
                Ok(Some(Message::Alive | Message::Hello { .. })) => {}
                Ok(Some(Message::Done)) => return,
                Ok(Some(Message::Leaving(sentence) | Message::Lost(sentence))) => return self.lost(&sentence),
                Ok(None) => return self.lost(&format!("{name} went missing: its connection ended")),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    return self.lost(&format!("{name} went missing: silent for {} s", SILENCE.as_secs()));
                }
                Err(error) => return self.lost(&format!("{name} went missing: {error}")),
            }
        }
    }
}

fn listen() -> Result<TcpListener, TrainError> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))
        .map_err(|e| TrainError::Lost(format!("cannot listen for other ranks: {e}")))
}

/// This machine's addresses; those that other machines can reach come first.
fn addresses() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|i| i.ip()).collect();
    all.retain(IpAddr::is_ipv4);
    all.sort_by_key(IpAddr::is_loopback);
    all
}

/// Waits for all other ranks, and listens to each on a thread.
fn accept(state: &Arc<State>, listener: &TcpListener, hub: &Hub, count: usize) -> Result<(), TrainError> {
    let error = |e: std::io::Error| TrainError::Lost(format!("cannot accept other ranks: {e}"));
    listener.set_nonblocking(true).map_err(error)?;
    let began = std::time::Instant::now();
    let mut joined = 0;
    while joined < count {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && began.elapsed() < SILENCE => {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(TrainError::Lost(format!(
                    "only {joined} of {count} other ranks connected within {SILENCE:?}"
                )));
            }
            Err(e) => return Err(error(e)),
        };
        // Any other client that connects does not send the handshake in time.
        let Ok((mut lines, mut stream)) = prepare(stream) else { continue };
        match receive(&mut lines) {
            Ok(Some(Message::Hello { token, host, .. })) if token == hub.token => {
                // The reply proves to the peer that it has reached rank 0.
                let welcome = Message::Hello { token, rank: 0, host: hub.host.clone() };
                send(&mut stream, &welcome).map_err(error)?;
                state.peers().push(stream);
                joined += 1;
                let state = state.clone();
                std::thread::spawn(move || state.listen_to(&mut lines, &host));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Connects to rank 0, and listens to it on a thread.
fn join(state: &Arc<State>, hub: &Hub, rank: usize, name: String) -> Result<(), TrainError> {
    let hello = Message::Hello { token: hub.token.clone(), rank, host: name };
    let try_address = |address: &IpAddr| -> std::io::Result<Option<(BufReader<TcpStream>, TcpStream)>> {
        let stream = TcpStream::connect_timeout(&SocketAddr::new(*address, hub.port), CONNECT_TIMEOUT)?;
        let (mut lines, mut stream) = prepare(stream)?;
        send(&mut stream, &hello)?;
        let is_hub = matches!(receive(&mut lines)?, Some(Message::Hello { token, .. }) if token == hub.token);
        Ok(is_hub.then_some((lines, stream)))
    };
    let found = hub.addresses.iter().find_map(|address| try_address(address).ok().flatten());
    let Some((mut lines, stream)) = found else {
        let addresses: Vec<String> = hub.addresses.iter().map(|a| format!("{a}:{}", hub.port)).collect();
        return Err(TrainError::Lost(format!("cannot reach {} at {}", hub.host, addresses.join(" or "))));
    };
    state.peers().push(stream);
    let (state, host) = (state.clone(), hub.host.clone());
    std::thread::spawn(move || state.listen_to(&mut lines, &host));
    Ok(())
}

fn prepare(stream: TcpStream) -> std::io::Result<(BufReader<TcpStream>, TcpStream)> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(BEAT))?;
    Ok((BufReader::new(stream.try_clone()?), stream))
}

fn send(stream: &mut TcpStream, message: &Message) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// The next message; `None` at the end of the connection.
fn receive(lines: &mut BufReader<TcpStream>) -> std::io::Result<Option<Message>> {
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    serde_json::from_str(&line).map(Some).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::distributed::Threads;

    /// What each of three ranks hears when rank `who` does `what`.
    fn heard(who: usize, what: impl Fn(Monitor) + Sync) -> Vec<Option<String>> {
        Threads::run(3, |world| {
            let (sender, receiver) = channel();
            let monitor = Monitor::start(&world, move |sentence| _ = sender.send(sentence.to_owned())).unwrap();
            world.barrier().unwrap();
            if world.rank() == who {
                what(monitor);
                return None;
            }
            let sentence = receiver.recv_timeout(Duration::from_secs(10)).ok();
            drop(monitor);
            sentence
        })
    }

    #[test]
    fn whoever_leaves_is_heard_by_all_with_the_reason() {
        for who in 0..3 {
            let all = heard(who, |monitor| monitor.leave("the disk is full"));
            let expected = format!("rank {who} (this machine) stopped: the disk is full");
            for (rank, sentence) in all.into_iter().enumerate().filter(|(rank, _)| *rank != who) {
                assert_eq!(sentence.as_deref(), Some(expected.as_str()), "rank {rank}");
            }
        }
    }

    #[test]
    fn a_connection_that_ends_is_a_rank_that_went_missing() {
        let cut = |monitor: Monitor| {
            let state = monitor.state.as_ref().unwrap();
            state.over.store(true, Ordering::SeqCst);
            state.peers().iter().for_each(|peer| peer.shutdown(std::net::Shutdown::Both).unwrap());
        };
        for who in 0..3 {
            for (rank, sentence) in heard(who, cut).into_iter().enumerate().filter(|(rank, _)| *rank != who) {
                let sentence = sentence.unwrap_or_else(|| panic!("rank {rank} heard nothing"));
                assert!(sentence.starts_with(&format!("rank {who} (this machine) went missing")), "{sentence}");
            }
        }
    }

    #[test]
    fn a_run_that_ends_in_order_alarms_nobody() {
        let alarms = Threads::run(3, |world| {
            let (sender, receiver) = channel();
            let monitor = Monitor::start(&world, move |sentence| _ = sender.send(sentence.to_owned())).unwrap();
            world.barrier().unwrap();
            monitor.finish();
            receiver.recv_timeout(Duration::from_millis(300)).ok()
        });
        assert_eq!(alarms, [None, None, None]);
    }
}
