//! The thread of a timeline: sends what is due, and between two probes takes what comes back.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use socket2::Socket;
use tokio::sync::oneshot;

use super::TimelineError;
use super::line::{Event, Line, Sent};
use super::record::Record;
use super::report::{Mark, Outages, PairOutages};
use super::running::Signal;
use super::show::{STRIP, place};
use crate::backlog;
use crate::event::{self, EventLog, Level, Protocol};
use crate::patience;
use crate::probe::udp;

/// How long a pair may take for its first answer, and how often it is asked until then.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
const FIRST_INTERVAL: Duration = Duration::from_millis(20);

/// The longest time without a look at connections that take too long.
const LOOK: Duration = Duration::from_millis(100);

/// Everything that the thread needs.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) events: EventLog,
    pub(super) protocol: Protocol,
    pub(super) payload: u32,
    pub(super) interval: Duration,
    pub(super) grace: Duration,
    pub(super) cold: bool,
    pub(super) pairs: Vec<Pair>,
    pub(super) servers: Vec<Server>,
}

/// One pair and what has become of its probes.
#[derive(Debug)]
pub(super) struct Pair {
    from: String,
    to: String,
    line: Line,
    record: Record,
    /// The number of the next probe on the wire, and of the first that counts.
    next: u64,
    first: u64,
    /// When the next probe is due, since the timeline began.
    due: Duration,
    /// The wall clock when each probe was sent, for comparison with the kernel's stamps.
    sent_wall: Vec<SystemTime>,
    overflowed: u64,
}

/// What answers at a target.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) port: u16,
    socket: Socket,
    is_tcp: bool,
}

impl Server {
    pub(super) fn udp(socket: Socket) -> io::Result<Self> {
        Ok(Self {
            port: udp::port_of(&socket)?,
            socket,
            is_tcp: false,
        })
    }

    pub(super) fn tcp(socket: Socket) -> io::Result<Self> {
        Ok(Self {
            port: udp::port_of(&socket)?,
            socket,
            is_tcp: true,
        })
    }

    /// Answers everything that has come.
    fn serve(&self, buffer: &mut [u8]) {
        loop {
            let served = match self.is_tcp {
                // Closed at once: the client wanted no more than to connect.
                true => self.socket.accept().map(drop),
                false => udp::socket::reflect(&self.socket, buffer),
            };
            match served {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Nothing more, most often; whatever else it is, the prober will miss it.
                Err(_) => return,
            }
        }
    }
}

impl Pair {
    pub(super) fn new(from: &str, to: &str, line: Line) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            line,
            record: Record::default(),
            next: 0,
            first: 0,
            due: Duration::ZERO,
            sent_wall: Vec::new(),
            overflowed: 0,
        }
    }

    /// Sends; `at` is now, since the timeline began.
    fn send(&mut self, at: Duration) {
        // Before it is sent, as `at` is: the answer may be there before the call returns.
        let wall = SystemTime::now();
        match self.line.send(self.next) {
            Sent::NoRoom => {
                self.record.skipped(1);
                return;
            }
            Sent::Yes => {}
            Sent::Refused(why) => self.record.told(why),
        }
        self.next += 1;
        self.record.sent(at);
        self.sent_wall.push(wall);
    }

    /// Sends if it is time, and says when it will be next.
    fn send_if_due(&mut self, begin: Instant, interval: Duration) {
        let now = begin.elapsed();
        let Some(late) = now.checked_sub(self.due) else {
            return;
        };
        // What was due while this thread had no processor is not made up for: a burst would be
        // another test than the one that was asked for.
        let missed = slots(late, interval);
        self.record.skipped(missed.into());
        // By the same clock's word as what was missed, so that the two agree.
        self.send(now);
        self.due += interval * (missed + 1);
    }

    /// Notes what was due and will not be sent any more.
    fn skip_until(&mut self, end: Duration, interval: Duration) {
        if let Some(late) = end.checked_sub(self.due) {
            self.record.skipped(u64::from(slots(late, interval)) + 1);
        }
    }

    fn receive(&mut self, begin: Instant, buffer: &mut [u8]) {
        let (record, first, sent_wall) = (&mut self.record, self.first, &self.sent_wall);
        let mut event = |event| match event {
            Event::Told(error) => record.told(error),
            Event::Answer(number, stamp) => {
                let Some(number) = number.checked_sub(first) else {
                    // From before the timeline began.
                    return;
                };
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                let Some(sent) = record.probes().get(number).map(|probe| probe.sent) else {
                    return;
                };
                // The kernel's stamp does not contain the wait for this thread. It is wall clock,
                // which may be set meanwhile: then our own clock has to do.
                let longest = begin.elapsed().saturating_sub(sent);
                let took = stamp
                    .zip(sent_wall.get(number))
                    .and_then(|(stamp, sent)| stamp.duration_since(*sent).ok())
                    .filter(|took| *took <= longest);
                record.answered(number, took.unwrap_or(longest));
            }
        };
        let overflowed = self.line.receive(buffer, self.next, &mut event);
        self.overflowed = self.overflowed.max(overflowed);
    }

    /// Forgets what was before the timeline begins.
    fn begin(&mut self, due: Duration) {
        self.record = Record::default();
        self.sent_wall.clear();
        self.first = self.next;
        self.due = due;
    }
}

impl Engine {
    /// Runs until it is stopped. Says first whether it has begun; `None` when it has not.
    pub(super) fn run(
        mut self,
        signal: &Signal,
        ready: oneshot::Sender<Result<(), TimelineError>>,
    ) -> Option<Outages> {
        take_precedence();
        let mut buffer = vec![0; udp::socket::LARGEST];
        let poll = match self.register(signal) {
            Ok(poll) => poll,
            Err(source) => {
                let error = TimelineError::Socket {
                    pair: "all".to_owned(),
                    operation: "register the sockets",
                    source,
                };
                ready.send(Err(error)).unwrap_or_default();
                return None;
            }
        };
        if !self.cold
            && let Err(error) = self.warm_up(&poll, signal, &mut buffer)
        {
            ready.send(Err(error)).unwrap_or_default();
            return None;
        }
        // Spread over the interval, so that not all are due at the same moment.
        let share = self.interval / u32::try_from(self.pairs.len()).unwrap_or(u32::MAX);
        let mut due = Duration::ZERO;
        for pair in &mut self.pairs {
            pair.begin(due);
            due += share;
        }
        let backlog = backlog::Watch::start();
        let (begin, began) = (Instant::now(), self.events.elapsed());
        ready.send(Ok(())).unwrap_or_default();
        while !signal.is_stopped() {
            for pair in &mut self.pairs {
                pair.send_if_due(begin, self.interval);
            }
            let next = self.pairs.iter().map(|pair| pair.due).min();
            let pause = next.unwrap_or(LOOK).saturating_sub(begin.elapsed());
            self.receive(&poll, begin, pause, &mut buffer);
        }
        let end = begin.elapsed();
        for pair in &mut self.pairs {
            pair.skip_until(end, self.interval);
        }
        self.await_the_last(&poll, begin, end, signal, &mut buffer);
        Some(self.report(end, began, backlog.dropped()))
    }

    /// Has every pair answered once.
    fn warm_up(
        &mut self,
        poll: &Epoll,
        signal: &Signal,
        buffer: &mut [u8],
    ) -> Result<(), TimelineError> {
        let begin = Instant::now();
        let limit = patience::scaled(FIRST_ANSWER).unwrap_or(FIRST_ANSWER);
        loop {
            let mut silent = self.pairs.iter_mut().filter(|pair| pair.is_silent());
            let mut any = false;
            silent.by_ref().for_each(|pair| {
                any = true;
                pair.send(begin.elapsed());
            });
            if !any {
                return Ok(());
            }
            if begin.elapsed() > limit || signal.is_dropped() {
                let silent = self.pairs.iter().filter(|pair| pair.is_silent());
                let pairs = silent.map(|pair| {
                    let told = pair.record.errors().into_iter().next();
                    let told = told.map_or("nothing came back".to_owned(), |(error, _)| error);
                    format!("{} → {}: {told}", pair.from, pair.to)
                });
                return Err(TimelineError::NoAnswer {
                    pairs: pairs.collect(),
                });
            }
            let again = begin.elapsed() + FIRST_INTERVAL;
            while let Some(pause) = again.checked_sub(begin.elapsed()) {
                self.receive(poll, begin, pause, buffer);
                if !self.pairs.iter().any(Pair::is_silent) {
                    break;
                }
            }
        }
    }

    /// Takes what still comes, until all has come or the grace is over.
    fn await_the_last(
        &mut self,
        poll: &Epoll,
        begin: Instant,
        end: Duration,
        signal: &Signal,
        buffer: &mut [u8],
    ) {
        let since = end.saturating_sub(self.grace);
        while !signal.is_dropped() {
            let over = begin.elapsed().saturating_sub(end);
            let missing = |pair: &Pair| !pair.record.is_complete_since(since);
            let rest = self.grace.saturating_sub(over);
            if rest.is_zero() || !self.pairs.iter().any(missing) {
                return;
            }
            self.receive(poll, begin, rest.min(LOOK), buffer);
        }
    }

    fn register(&self, signal: &Signal) -> io::Result<Epoll> {
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let edge = EpollFlags::EPOLLET;
        // It stays readable: as an edge it wakes once.
        poll.add(
            &signal.wake,
            EpollEvent::new(EpollFlags::EPOLLIN | edge, WAKE),
        )?;
        for (place, server) in self.servers.iter().enumerate() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, SERVER | place as u64);
            poll.add(&server.socket, event)?;
        }
        for (place, pair) in self.pairs.iter().enumerate() {
            let flags = match &pair.line {
                Line::Datagrams(_) => EpollFlags::EPOLLIN | edge,
                // An idle TCP socket is writable at all times: only changes are of interest.
                Line::Tcp(_) => EpollFlags::EPOLLOUT | edge,
            };
            for descriptor in pair.line.descriptors() {
                poll.add(descriptor, EpollEvent::new(flags, place as u64))?;
            }
        }
        Ok(poll)
    }

    /// Waits for at most `pause` and takes what has come.
    fn receive(&mut self, poll: &Epoll, begin: Instant, pause: Duration, buffer: &mut [u8]) {
        let mut ready = [PollFd::new(poll.0.as_fd(), PollFlags::POLLIN)];
        // `epoll_wait` counts in milliseconds, which is too coarse for a thousand probes a second.
        if ppoll(&mut ready, Some(TimeSpec::from(pause.min(LOOK))), None).is_err() {
            // Interrupted: there is a next time.
            return;
        }
        let mut events = [EpollEvent::empty(); 64];
        let count = poll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in events.iter().take(count) {
            let token = event.data();
            if token == WAKE {
                continue;
            }
            let place = usize::try_from(token & !SERVER).unwrap_or(usize::MAX);
            if token & SERVER != 0 {
                if let Some(server) = self.servers.get(place) {
                    server.serve(buffer);
                }
            } else if let Some(pair) = self.pairs.get_mut(place) {
                pair.receive(begin, buffer);
            }
        }
        // No event tells that a connection takes too long.
        if count == 0 && self.protocol == Protocol::Tcp {
            for pair in &mut self.pairs {
                pair.receive(begin, buffer);
            }
        }
    }

    fn report(self, end: Duration, began: Duration, backlog_dropped: u64) -> Outages {
        let marks = marks(&self.events, began, end);
        let pairs = self.pairs.iter().map(|pair| pair.report(end, &marks));
        let outages = Outages {
            protocol: self.protocol,
            payload: self.payload,
            interval: self.interval,
            duration: end,
            backlog_dropped,
            pairs: pairs.collect(),
            marks,
            events: self.events.clone(),
        };
        self.events.record(event::Kind::TimelineStopped {
            pairs: outages.pairs.len(),
            sent: outages.sent(),
            lost: outages.lost(),
        });
        let attachment = event::Attachment::new("timeline", &outages);
        self.events.attach(attachment);
        outages
    }
}

/// How many intervals there are in a time.
fn slots(time: Duration, interval: Duration) -> u32 {
    let slots = time.as_nanos() / interval.as_nanos().max(1);
    u32::try_from(slots).unwrap_or(u32::MAX)
}

/// Has this thread run before others where that is allowed: it needs little, and it needs it at the
/// right time. Without, more probes are skipped.
fn take_precedence() {
    const NICE: nix::libc::c_int = -15;
    // SAFETY: the call takes three numbers; 0 is the calling thread.
    let taken = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, NICE) };
    if let Err(error) = nix::errno::Errno::result(taken) {
        tracing::debug!(%error, "raise the priority of the timeline");
    }
}

const WAKE: u64 = u64::MAX;
const SERVER: u64 = 1 << 32;

impl Pair {
    fn is_silent(&self) -> bool {
        self.record.longest_rtt().is_none()
    }

    fn report(&self, end: Duration, marks: &[Mark]) -> PairOutages {
        let record = &self.record;
        let mut outages = record.outages(end);
        for outage in &mut outages {
            outage.after = marks.iter().rposition(|mark| mark.at <= outage.start);
        }
        let mut strip = vec![(0, 0); STRIP];
        for probe in record.probes() {
            let (sent, lost) = &mut strip[place(probe.sent, end)];
            *sent += 1;
            *lost += u32::from(probe.answered.is_none());
        }
        PairOutages {
            from: self.from.clone(),
            to: self.to.clone(),
            sent: record.probes().len() as u64,
            lost: record.lost(),
            duplicates: record.duplicates(),
            reordered: record.reordered(),
            skipped: record.probes_skipped(),
            overflowed: self.overflowed,
            longest_gap: record.longest_gap(),
            longest_rtt: record.longest_rtt().unwrap_or_default(),
            outages,
            errors: record.errors(),
            strip,
        }
    }
}

/// What happened to the cluster while the timeline ran.
fn marks(log: &EventLog, began: Duration, end: Duration) -> Vec<Mark> {
    use event::Kind;
    let changes = |kind: &Kind| {
        kind.level() == Level::Fault
            || matches!(
                kind,
                Kind::Note { .. }
                    | Kind::Change { .. }
                    | Kind::AgentStarted { .. }
                    | Kind::AgentReady { .. }
                    | Kind::AgentStopped
                    | Kind::AgentDied { .. }
                    | Kind::MachineRemoved { .. }
            )
    };
    let events = log.all();
    let during = events.iter().filter_map(|event| {
        let at = event.at.checked_sub(began)?;
        let text = match (&event.kind, &event.machine) {
            (Kind::Note { text }, _) => text.clone(),
            // Its command line is long, and the same for all.
            (Kind::AgentStarted { .. }, Some(machine)) => format!("{machine}: agent started"),
            (kind, Some(machine)) => format!("{machine}: {kind}"),
            (kind, None) => kind.to_string(),
        };
        (changes(&event.kind) && at <= end).then_some(Mark { at, text })
    });
    during.collect()
}
