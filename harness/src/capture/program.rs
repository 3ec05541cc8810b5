//! The compiler from filter terms to classic BPF.
//!
//! Classic BPF jumps forwards only, so the program is written backwards: when an instruction is
//! written, everything that it can jump to has its place already. A [`Label`] counts instructions
//! from the end of the program and never moves.

use nix::libc;
use socket2::SockFilter;

use super::filter::Term;

/// Offset at which loads begin at the IPv4 header, whatever link header stands before it.
const NETWORK: u32 = libc::SKF_NET_OFF as u32;
/// Where the kernel keeps the Ethernet type of the packet, in host byte order.
const ETHER_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;

/// Offsets in an IPv4 header.
const FRAGMENT: u32 = 6;
const PROTOCOL: u32 = 9;
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const FRAGMENT_OFFSET_MASK: u32 = 0x1fff;

/// Bytes to keep of a packet that passes: all of them.
const KEEP: u32 = u32::MAX;
const DROP: u32 = 0;

/// A place in the program: how many instructions follow it, itself included.
#[derive(Clone, Copy)]
struct Label(usize);

/// One instruction. `socket2` has a type for it that cannot be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jump_true: u8,
    pub(super) jump_false: u8,
    pub(super) k: u32,
}

/// A classic BPF program.
pub(super) struct Program {
    /// The last instruction first.
    reversed: Vec<Instruction>,
}

impl Program {
    pub(super) fn compile(term: &Term) -> Program {
        let mut program = Program {
            reversed: Vec::new(),
        };
        let drop = program.statement(libc::BPF_RET | libc::BPF_K, DROP);
        let keep = program.statement(libc::BPF_RET | libc::BPF_K, KEEP);
        let start = program.term(term, 0, keep, drop);
        program.before(start);
        program
    }

    /// The instructions in the order in which they run.
    pub(super) fn instructions(&self) -> impl ExactSizeIterator<Item = Instruction> {
        self.reversed.iter().rev().copied()
    }

    /// The instructions as the socket option takes them.
    pub(super) fn to_socket_filter(&self) -> Vec<SockFilter> {
        self.instructions()
            .map(|i| SockFilter::new(i.code, i.jump_true, i.jump_false, i.k))
            .collect()
    }

    /// Writes the code of `term` about the IPv4 header at `depth`, 0 being the outermost.
    fn term(&mut self, term: &Term, depth: usize, yes: Label, no: Label) -> Label {
        match term {
            Term::Everything => yes,
            Term::EtherType(kind) if depth == 0 => self.ether_type(*kind, yes, no),
            // What is inside an IPv4 header of protocol 4 is IPv4 and nothing else.
            Term::EtherType(kind) if i32::from(*kind) == libc::ETH_P_IP => {
                self.header(depth, yes, no)
            }
            Term::EtherType(_) => no,
            Term::Protocol(number) => {
                let test = self.equal((*number).into(), yes, no);
                let load = self.load(libc::BPF_B, PROTOCOL, test);
                self.header(depth, load, no)
            }
            Term::Source(address) => {
                let test = self.equal((*address).into(), yes, no);
                let load = self.load(libc::BPF_W, SOURCE, test);
                self.header(depth, load, no)
            }
            Term::Destination(address) => {
                let test = self.equal((*address).into(), yes, no);
                let load = self.load(libc::BPF_W, DESTINATION, test);
                self.header(depth, load, no)
            }
            Term::Port(number) => self.port((*number).into(), depth, yes, no),
            Term::Inner(term) => {
                let inside = self.term(term, depth + 1, yes, no);
                self.header(depth + 1, inside, no)
            }
            Term::And(a, b) => {
                let second = self.term(b, depth, yes, no);
                self.term(a, depth, second, no)
            }
            Term::Or(a, b) => {
                let second = self.term(b, depth, yes, no);
                self.term(a, depth, yes, second)
            }
            Term::Not(term) => self.term(term, depth, no, yes),
        }
    }

    fn ether_type(&mut self, kind: u16, yes: Label, no: Label) -> Label {
        let test = self.equal(kind.into(), yes, no);
        self.before(test);
        self.statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, ETHER_TYPE)
    }

    /// Goes on to `found` with X at the offset of the IPv4 header at `depth`, if there is one.
    fn header(&mut self, depth: usize, found: Label, no: Label) -> Label {
        let mut next = found;
        for _ in 0..depth {
            let skip = self.skip_header(next);
            let whole = self.not_a_later_fragment(skip, no);
            let ipip = self.equal(libc::IPPROTO_IPIP as u32, whole, no);
            next = self.load(libc::BPF_B, PROTOCOL, ipip);
        }
        self.before(next);
        let start = self.statement(libc::BPF_LDX | libc::BPF_IMM, 0);
        self.ether_type(libc::ETH_P_IP as u16, start, no)
    }

    fn port(&mut self, number: u32, depth: usize, yes: Label, no: Label) -> Label {
        let test = self.equal(number, yes, no);
        let destination = self.load(libc::BPF_H, 2, test);
        let test = self.equal(number, yes, destination);
        let source = self.load(libc::BPF_H, 0, test);
        let skip = self.skip_header(source);
        let whole = self.not_a_later_fragment(skip, no);
        let udp = self.equal(libc::IPPROTO_UDP as u32, whole, no);
        let tcp = self.equal(libc::IPPROTO_TCP as u32, whole, udp);
        let load = self.load(libc::BPF_B, PROTOCOL, tcp);
        self.header(depth, load, no)
    }

    /// Moves X behind the IPv4 header at X.
    fn skip_header(&mut self, next: Label) -> Label {
        self.before(next);
        self.statement(libc::BPF_MISC | libc::BPF_TAX, 0);
        self.statement(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0);
        self.statement(libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K, 2);
        let mask = self.statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xf);
        self.load(libc::BPF_B, 0, mask)
    }

    fn not_a_later_fragment(&mut self, next: Label, no: Label) -> Label {
        let test = self.jump(libc::BPF_JSET, FRAGMENT_OFFSET_MASK, no, next);
        self.load(libc::BPF_H, FRAGMENT, test)
    }

    /// Loads what stands `offset` bytes behind X in the packet.
    fn load(&mut self, size: u32, offset: u32, next: Label) -> Label {
        self.before(next);
        self.statement(libc::BPF_LD | size | libc::BPF_IND, NETWORK + offset)
    }

    fn equal(&mut self, value: u32, yes: Label, no: Label) -> Label {
        self.jump(libc::BPF_JEQ, value, yes, no)
    }

    fn jump(&mut self, condition: u32, value: u32, yes: Label, no: Label) -> Label {
        let (yes, no) = (self.near(yes), self.near(no));
        let distance =
            |label: Label| u8::try_from(self.reversed.len() - label.0).unwrap_or(u8::MAX);
        let (jump_true, jump_false) = (distance(yes), distance(no));
        let code = (libc::BPF_JMP | condition | libc::BPF_K) as u16;
        self.push(Instruction {
            code,
            jump_true,
            jump_false,
            k: value,
        })
    }

    /// A label for the same place that a conditional jump, whose reach is 255, can get to from
    /// the next two instructions.
    fn near(&mut self, label: Label) -> Label {
        match self.reversed.len() - label.0 {
            0..254 => label,
            _ => self.go_to(label),
        }
    }

    /// Makes the next instruction that is written run into `next`.
    fn before(&mut self, next: Label) {
        if next.0 != self.reversed.len() {
            self.go_to(next);
        }
    }

    /// An unconditional jump, whose reach is not limited.
    fn go_to(&mut self, label: Label) -> Label {
        let distance = u32::try_from(self.reversed.len() - label.0).unwrap_or(u32::MAX);
        self.statement(libc::BPF_JMP | libc::BPF_JA, distance)
    }

    fn statement(&mut self, code: u32, k: u32) -> Label {
        self.push(Instruction {
            code: code as u16,
            jump_true: 0,
            jump_false: 0,
            k,
        })
    }

    fn push(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        Label(self.reversed.len())
    }
}
