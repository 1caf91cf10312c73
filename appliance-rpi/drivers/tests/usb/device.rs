//! What every USB device does: address, configuration, halts and packet ids. What it is for is its [`Function`].

use std::collections::{HashMap, HashSet};

/// Answer to an IN token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Nak,
    Packet(Vec<u8>),
}

/// The eight bytes of a setup stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetupPacket {
    pub(crate) kind: u8,
    pub(crate) request: u8,
    pub(crate) value: u16,
    pub(crate) index: u16,
    pub(crate) length: u16,
}

/// What a device is for. `None` and `false` stall.
pub(crate) trait Function {
    fn descriptor(&mut self, kind: u8, number: u8) -> Option<Vec<u8>>;
    fn control_in(&mut self, setup: SetupPacket) -> Option<Vec<u8>>;
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> bool;
    fn input(&mut self, endpoint: u8) -> Input;
    /// Whether the packet is taken; NAK otherwise.
    fn output(&mut self, endpoint: u8, packet: &[u8]) -> bool;
    fn reset(&mut self) {}
    /// Whether it leaves control transfers unanswered.
    fn is_mute(&self) -> bool {
        false
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speed {
    High,
    Full,
    Low,
}

enum Control {
    Idle,
    Input { data: Vec<u8>, sent: usize },
    Output { setup: SetupPacket, data: Vec<u8> },
    Stalled,
}

/// Answer of a device to a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Nak,
    Stall,
    Ack,
    Data(Vec<u8>, u8),
}

pub(crate) struct Device {
    pub(crate) speed: Speed,
    pub(crate) control_packet: usize,
    pub(crate) address: u8,
    pub(crate) configuration: u8,
    pub(crate) resets: u32,
    pub(crate) setups: Vec<SetupPacket>,
    pub(crate) halted: HashSet<u8>,
    pending_address: Option<u8>,
    toggles: HashMap<u8, u8>,
    control: Control,
    pub(crate) function: Box<dyn Function>,
}

pub(crate) const DATA0: u8 = 0;
pub(crate) const DATA1: u8 = 2;

fn flip(pid: u8) -> u8 {
    if pid == DATA0 { DATA1 } else { DATA0 }
}

impl Device {
    pub(crate) fn new(speed: Speed, function: Box<dyn Function>) -> Self {
        Self {
            speed,
            control_packet: 64,
            address: 0,
            configuration: 0,
            resets: 0,
            setups: Vec::new(),
            halted: HashSet::new(),
            pending_address: None,
            toggles: HashMap::new(),
            control: Control::Idle,
            function,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.address = 0;
        self.configuration = 0;
        self.resets += 1;
        self.halted.clear();
        self.toggles.clear();
        self.control = Control::Idle;
        self.pending_address = None;
        self.function.reset();
    }

    pub(crate) fn setup(&mut self, packet: &[u8]) -> Answer {
        assert_eq!(packet.len(), 8, "a setup stage has eight bytes");
        let word = |at: usize| u16::from_le_bytes([packet[at], packet[at + 1]]);
        let setup =
            SetupPacket { kind: packet[0], request: packet[1], value: word(2), index: word(4), length: word(6) };
        self.setups.push(setup);
        self.control = if setup.kind & 0x80 != 0 {
            match self.control_in(setup) {
                Some(mut data) => {
                    data.truncate(usize::from(setup.length));
                    Control::Input { data, sent: 0 }
                }
                None => Control::Stalled,
            }
        } else {
            Control::Output { setup, data: Vec::new() }
        };
        Answer::Ack
    }

    fn control_in(&mut self, setup: SetupPacket) -> Option<Vec<u8>> {
        match (setup.kind, setup.request) {
            (0x80, 6) => self.function.descriptor((setup.value >> 8) as u8, setup.value as u8),
            _ => self.function.control_in(setup),
        }
    }

    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> bool {
        match (setup.kind, setup.request) {
            (0, 5) => {
                self.pending_address = Some(setup.value as u8);
                true
            }
            (0, 9) => {
                self.configuration = setup.value as u8;
                true
            }
            (2, 1) => {
                let endpoint = setup.index as u8;
                self.halted.remove(&endpoint);
                self.toggles.remove(&endpoint);
                true
            }
            _ => self.function.control_out(setup, data),
        }
    }

    pub(crate) fn input(&mut self, endpoint: u8) -> Answer {
        if endpoint == 0 {
            return self.control_input();
        }
        if self.halted.contains(&(endpoint | 0x80)) {
            return Answer::Stall;
        }
        assert_ne!(self.configuration, 0, "endpoint {endpoint} used before the device was configured");
        match self.function.input(endpoint) {
            Input::Nak => Answer::Nak,
            Input::Packet(data) => {
                let pid = self.toggles.entry(endpoint | 0x80).or_insert(DATA0);
                let answer = Answer::Data(data, *pid);
                *pid = flip(*pid);
                answer
            }
        }
    }

    fn control_input(&mut self) -> Answer {
        if self.function.is_mute() {
            return Answer::Nak;
        }
        match &mut self.control {
            Control::Input { data, sent } => {
                let pid = if (*sent / self.control_packet).is_multiple_of(2) { DATA1 } else { DATA0 };
                let rest = &data[*sent..];
                let packet = rest[..rest.len().min(self.control_packet)].to_vec();
                *sent += packet.len();
                Answer::Data(packet, pid)
            }
            Control::Output { setup, data } => {
                let (setup, data) = (*setup, std::mem::take(data));
                assert_eq!(data.len(), usize::from(setup.length), "the whole data stage came");
                if self.control_out(setup, &data) {
                    self.control = Control::Idle;
                    if let Some(address) = self.pending_address.take() {
                        self.address = address;
                    }
                    Answer::Data(Vec::new(), DATA1)
                } else {
                    self.control = Control::Stalled;
                    Answer::Stall
                }
            }
            Control::Stalled => Answer::Stall,
            Control::Idle => Answer::Nak,
        }
    }

    pub(crate) fn output(&mut self, endpoint: u8, packet: &[u8], pid: u8) -> Answer {
        if endpoint == 0 {
            return match &mut self.control {
                Control::Output { data, .. } => {
                    data.extend_from_slice(packet);
                    Answer::Ack
                }
                Control::Input { .. } => {
                    assert!(packet.is_empty(), "the status stage is empty");
                    self.control = Control::Idle;
                    Answer::Ack
                }
                Control::Stalled => Answer::Stall,
                Control::Idle => Answer::Nak,
            };
        }
        if self.halted.contains(&endpoint) {
            return Answer::Stall;
        }
        let expected = *self.toggles.get(&endpoint).unwrap_or(&DATA0);
        if pid != expected {
            // A repeated packet is acknowledged and dropped, as a device does that thinks its answer was lost.
            return Answer::Ack;
        }
        if !self.function.output(endpoint, packet) {
            return Answer::Nak;
        }
        self.toggles.insert(endpoint, flip(expected));
        Answer::Ack
    }
}
