//! A network device on the bus: rings of receive and transmit buffers, one bulk channel each way.

use super::descriptor::{BulkPair, EcmFunction, EndpointDescriptor};
use super::dwc2::Dwc2;
use super::layout::NIC_DMA_BASE;
use super::ring::{MAX_BUFFERS, RxRing, TxRing};
use super::smsc95xx::RX_BURST_BYTES;
use super::transfer::{Completion, Endpoint, Kind, Pid, Transfer, TransferError};
use super::{ecm, smsc95xx};
use crate::{Counters, DmaMemory, Link, MacAddress, Mmio, SendError};

/// Memory for received transfers of one device. CDC Ethernet divides it into buffers of one frame, SMSC into two of
/// one burst.
const RX_BYTES: usize = 16 * 1024;
const RX_FRAME_BYTES: usize = 2048;
const TX_BUFFER_BYTES: usize = 2048;
/// DMA memory of one device.
pub(super) const DMA_BYTES: usize = RX_BYTES + MAX_BUFFERS * TX_BUFFER_BYTES;

const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: u16 = 4;
/// The longest frame sent, without FCS and VLAN tag.
const MAX_FRAME: u16 = 1514;
/// A device that keeps a frame waiting this long has lost it.
const TX_LIMIT_US: u64 = 1_000_000;
/// Errors in a row, without one transfer between them, after which a device is reset.
const MAX_ERRORS: u8 = 8;
/// Pause after an error: a device that has just been pulled out is not asked on and on until its hub says so.
const ERROR_PAUSE_US: u64 = 20_000;
/// How often a PHY without notifications is asked for the link.
const LINK_POLL_US: u64 = 500_000;

/// How a device talks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Class {
    Ecm(EcmFunction),
    Smsc95xx,
}

/// A device ready for frames, as its setup found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    pub(super) class: Class,
    pub(super) mac: MacAddress,
    pub(super) notify: Option<EndpointDescriptor>,
    bulk: BulkPair,
}

impl Binding {
    pub(super) fn new(class: Class, mac: MacAddress, bulk: BulkPair, notify: Option<EndpointDescriptor>) -> Self {
        Self { class, mac, notify, bulk }
    }
}

/// What a slot wants asked of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    ClearHalt { number: u8, into_host: bool },
    Filter { promiscuous: bool },
    Link,
}

#[derive(Clone, Copy)]
struct Attached {
    address: u8,
    binding: Binding,
    pid_in: Pid,
    pid_out: Pid,
    halted_in: bool,
    halted_out: bool,
    /// The filter the device has.
    promiscuous: bool,
    next_link_poll: u64,
    /// Errors in a row, and until when to rest after the last.
    errors: u8,
    rest_until: u64,
}

impl Attached {
    fn failed(&mut self, now_us: u64) {
        self.errors = self.errors.saturating_add(1);
        self.rest_until = now_us + ERROR_PAUSE_US;
    }

    fn may_start(&self, now_us: u64) -> bool {
        self.errors < MAX_ERRORS && now_us >= self.rest_until
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Sending {
    #[default]
    Nothing,
    Frame {
        deadline: u64,
    },
    /// The empty packet that ends a transfer of whole packets.
    End {
        deadline: u64,
    },
}

/// One place for a network device. It outlives the device, so that an interface keeps its number, its counters and
/// its modes when a cable is pulled and put back.
pub(super) struct NicSlot {
    channel_in: usize,
    channel_out: usize,
    dma_base: usize,
    attached: Option<Attached>,
    pub(super) mac: Option<MacAddress>,
    pub(super) link: Link,
    pub(super) counters: Counters,
    pub(super) promiscuous: bool,
    pub(super) receive_only: bool,
    rx: RxRing,
    tx: TxRing,
    sending: Sending,
}

impl NicSlot {
    pub(super) fn new(index: usize) -> Self {
        Self {
            channel_in: 2 + 2 * index,
            channel_out: 3 + 2 * index,
            dma_base: NIC_DMA_BASE + index * DMA_BYTES,
            attached: None,
            mac: None,
            link: Link::Down,
            counters: Counters::default(),
            promiscuous: false,
            receive_only: false,
            rx: RxRing::new(MAX_BUFFERS),
            tx: TxRing::default(),
            sending: Sending::Nothing,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.attached.is_none()
    }

    pub(super) fn attach(&mut self, address: u8, binding: Binding, now_us: u64) {
        self.attached = Some(Attached {
            address,
            binding,
            pid_in: Pid::Data0,
            pid_out: Pid::Data0,
            halted_in: false,
            halted_out: false,
            promiscuous: false,
            next_link_poll: now_us,
            errors: 0,
            rest_until: now_us,
        });
        self.mac = Some(binding.mac);
        self.rx = RxRing::new(RX_BYTES / rx_buffer_bytes(&binding.class));
        if matches!(binding.class, Class::Ecm(_)) {
            // Many devices never say that they are connected; they are until they say otherwise.
            self.set_link(Link::Up { mbit: 0, full_duplex: true });
        }
    }

    pub(super) fn detach<M: Mmio, D: DmaMemory>(&mut self, host: &mut Dwc2<M, D>) {
        if self.attached.take().is_some() {
            host.cancel(self.channel_in);
            host.cancel(self.channel_out);
            self.counters.tx_drops += self.tx.waiting() as u64;
            self.tx = TxRing::default();
            self.sending = Sending::Nothing;
            self.set_link(Link::Down);
        }
    }

    pub(super) fn set_link(&mut self, link: Link) {
        if self.link != link {
            self.link = link;
            self.counters.link_changes += 1;
        }
    }

    /// Takes a message of the status endpoint.
    pub(super) fn notified(&mut self, message: &[u8]) {
        if let Some(link) = ecm::read_notification(message, self.link) {
            self.set_link(link);
        }
    }

    /// Whether the device fails too often and is to be reset.
    pub(super) fn is_failing(&self) -> bool {
        self.attached.is_some_and(|attached| attached.errors >= MAX_ERRORS)
    }

    /// The class of the device and what it is to be asked next, if anything.
    pub(super) fn errand(&mut self, now_us: u64) -> Option<(Class, Errand)> {
        let attached = self.attached.as_mut()?;
        let class = attached.binding.class;
        let bulk = attached.binding.bulk;
        let errand = if attached.halted_in {
            Errand::ClearHalt { number: bulk.input.number, into_host: true }
        } else if attached.halted_out {
            Errand::ClearHalt { number: bulk.output.number, into_host: false }
        } else if attached.promiscuous != self.promiscuous {
            Errand::Filter { promiscuous: self.promiscuous }
        } else if matches!(class, Class::Smsc95xx) && now_us >= attached.next_link_poll {
            attached.next_link_poll = now_us + LINK_POLL_US;
            Errand::Link
        } else {
            return None;
        };
        Some((class, errand))
    }

    /// Takes note that an errand was run, whether the device agreed or not: a request it refuses is not repeated.
    pub(super) fn errand_done(&mut self, errand: Errand, worked: bool, now_us: u64) {
        let Some(attached) = self.attached.as_mut() else { return };
        match errand {
            Errand::ClearHalt { into_host: true, .. } => {
                attached.halted_in = false;
                attached.pid_in = Pid::Data0;
            }
            Errand::ClearHalt { .. } => {
                attached.halted_out = false;
                attached.pid_out = Pid::Data0;
            }
            Errand::Filter { promiscuous } => attached.promiscuous = promiscuous,
            Errand::Link => {}
        }
        if !worked {
            attached.failed(now_us);
        }
    }

    /// Takes finished transfers and starts those that can be.
    pub(super) fn poll<M: Mmio, D: DmaMemory>(&mut self, host: &mut Dwc2<M, D>, halted: u32, now_us: u64) {
        if halted & 1 << self.channel_in != 0
            && let Some(completion) = host.finish(self.channel_in)
        {
            self.received(completion, now_us);
        }
        if halted & 1 << self.channel_out != 0
            && let Some(completion) = host.finish(self.channel_out)
        {
            self.sent(host, completion, now_us);
        }
        if let Sending::Frame { deadline } | Sending::End { deadline } = self.sending
            && now_us >= deadline
        {
            host.cancel(self.channel_out);
            self.counters.timeouts += 1;
            self.drop_sending();
            // Which packet id the device expects is unknown now; ending a halt settles it.
            if let Some(attached) = self.attached.as_mut() {
                attached.halted_out = true;
            }
        }
        self.start_receiving(host, now_us);
        self.start_sending(host, now_us);
    }

    fn received(&mut self, completion: Completion, now_us: u64) {
        let Some(attached) = self.attached.as_mut() else { return };
        attached.pid_in = completion.next;
        match completion.result {
            Ok(length) => {
                attached.errors = 0;
                match attached.binding.class {
                    Class::Ecm(_) => {
                        let too_long = self.rx.received_frame(length, RX_FRAME_BYTES);
                        self.counters.malformed += u64::from(too_long);
                    }
                    Class::Smsc95xx => self.rx.received(length),
                }
            }
            Err(TransferError::Nak) => self.rx.ended(),
            Err(error) => {
                self.rx.ended();
                attached.halted_in = error == TransferError::Stall;
                attached.failed(now_us);
                self.counters.rx_errors += 1;
            }
        }
    }

    fn sent<M: Mmio, D: DmaMemory>(&mut self, host: &mut Dwc2<M, D>, completion: Completion, now_us: u64) {
        let Some(attached) = self.attached.as_mut() else { return };
        attached.pid_out = completion.next;
        match (completion.result, self.sending) {
            (Ok(length), Sending::Frame { .. }) => {
                attached.errors = 0;
                let packet = usize::from(attached.binding.bulk.output.max_packet);
                if length.is_multiple_of(packet) {
                    self.sending = Sending::End { deadline: now_us + TX_LIMIT_US };
                    self.launch_out(host, 0);
                } else {
                    self.finish_sending();
                }
            }
            (Ok(_), _) => self.finish_sending(),
            (Err(error), _) => {
                attached.halted_out = error == TransferError::Stall;
                attached.failed(now_us);
                self.drop_sending();
            }
        }
    }

    fn finish_sending(&mut self) {
        if self.sending != Sending::Nothing {
            self.sending = Sending::Nothing;
            self.tx.pop();
        }
    }

    fn drop_sending(&mut self) {
        if self.sending != Sending::Nothing {
            self.counters.tx_drops += 1;
            self.finish_sending();
        }
    }

    fn start_receiving<M: Mmio, D: DmaMemory>(&mut self, host: &mut Dwc2<M, D>, now_us: u64) {
        let Some(attached) = self.attached else { return };
        let Some(buffer) = self.rx.vacant() else { return };
        if attached.halted_in || !attached.may_start(now_us) || !host.is_idle(self.channel_in) {
            return;
        }
        let size = rx_buffer_bytes(&attached.binding.class);
        let endpoint = bulk_endpoint(attached.address, attached.binding.bulk.input, true);
        let offset = self.dma_base + buffer * size;
        host.start(self.channel_in, Transfer { endpoint, pid: attached.pid_in, offset, length: size });
        self.rx.launched();
    }

    fn start_sending<M: Mmio, D: DmaMemory>(&mut self, host: &mut Dwc2<M, D>, now_us: u64) {
        let ready = self.attached.is_some_and(|attached| !attached.halted_out && attached.may_start(now_us));
        if !ready || self.sending != Sending::Nothing || !host.is_idle(self.channel_out) {
            return;
        }
        let Some((_, length)) = self.tx.first() else { return };
        self.sending = Sending::Frame { deadline: now_us + TX_LIMIT_US };
        self.launch_out(host, length);
    }

    /// Sends `length` bytes of the first buffer.
    fn launch_out<M: Mmio, D: DmaMemory>(&self, host: &mut Dwc2<M, D>, length: usize) {
        let (Some(attached), Some((buffer, _))) = (self.attached, self.tx.first()) else { return };
        let endpoint = bulk_endpoint(attached.address, attached.binding.bulk.output, false);
        let offset = self.tx_offset(buffer);
        host.start(self.channel_out, Transfer { endpoint, pid: attached.pid_out, offset, length });
    }

    fn tx_offset(&self, buffer: usize) -> usize {
        self.dma_base + RX_BYTES + buffer * TX_BUFFER_BYTES
    }

    /// Copies the next frame out, see [`crate::Nic::receive`].
    pub(super) fn receive<M: Mmio, D: DmaMemory>(
        &mut self,
        host: &mut Dwc2<M, D>,
        frame: &mut [u8],
        now_us: u64,
    ) -> Option<usize> {
        let class = self.attached?.binding.class;
        let mut found = None;
        while let Some(unread) = self.rx.unread().filter(|_| found.is_none()) {
            let start = self.dma_base + unread.buffer * rx_buffer_bytes(&class) + unread.cursor;
            let (from, length, advance) = match class {
                Class::Ecm(_) => (start, Some(unread.left), unread.left),
                Class::Smsc95xx if unread.left < smsc95xx::RX_HEADER => {
                    // One to three bytes are what rounding up the last frame leaves.
                    self.rx.drop_buffer();
                    continue;
                }
                Class::Smsc95xx => match smsc95xx::rx_header(host.dma.read32(start), unread.left) {
                    Some(frame) => (start + smsc95xx::RX_HEADER, frame.length, frame.advance),
                    None => {
                        self.counters.malformed += 1;
                        self.rx.drop_buffer();
                        continue;
                    }
                },
            };
            self.rx.advance(advance);
            match length {
                None => self.counters.rx_errors += 1,
                Some(length) if length < ETHERNET_HEADER => self.counters.malformed += 1,
                Some(length) => match frame.get_mut(..length) {
                    Some(room) => {
                        host.dma.read(from, room);
                        self.counters.rx_frames += 1;
                        self.counters.rx_octets += length as u64;
                        found = Some(length);
                    }
                    None => self.counters.rx_overruns += 1,
                },
            }
        }
        self.start_receiving(host, now_us);
        found
    }

    pub(super) fn can_send(&self) -> bool {
        self.attached.is_some() && self.link.is_up() && !self.receive_only && self.tx.vacant().is_some()
    }

    /// Queues a frame, see [`crate::Nic::send`].
    pub(super) fn send<M: Mmio, D: DmaMemory>(
        &mut self,
        host: &mut Dwc2<M, D>,
        frame: &[u8],
        now_us: u64,
    ) -> Result<(), SendError> {
        let result = self.enqueue(host, frame);
        match result {
            Ok(()) => {
                self.counters.tx_frames += 1;
                self.counters.tx_octets += frame.len() as u64;
                self.start_sending(host, now_us);
            }
            Err(_) => self.counters.tx_drops += 1,
        }
        result
    }

    fn enqueue<M: Mmio, D: DmaMemory>(&mut self, host: &mut Dwc2<M, D>, frame: &[u8]) -> Result<(), SendError> {
        if self.receive_only {
            return Err(SendError::ReceiveOnly);
        }
        let attached = self.attached.filter(|_| self.link.is_up()).ok_or(SendError::LinkDown)?;
        let (max, header) = match attached.binding.class {
            Class::Ecm(function) => (function.max_segment.clamp(60, MAX_FRAME), None),
            Class::Smsc95xx => (MAX_FRAME, Some(smsc95xx::tx_header(frame.len() as u16))),
        };
        if !(ETHERNET_HEADER..=usize::from(max + VLAN_TAG)).contains(&frame.len()) {
            return Err(SendError::BadLength);
        }
        let offset = self.tx_offset(self.tx.vacant().ok_or(SendError::Full)?);
        let start = header.map_or(0, |header| {
            host.dma.write(offset, &header);
            header.len()
        });
        host.dma.write(offset + start, frame);
        self.tx.push(start + frame.len());
        Ok(())
    }
}

/// Size of the buffers a class of device receives into.
fn rx_buffer_bytes(class: &Class) -> usize {
    match class {
        Class::Ecm(_) => RX_FRAME_BYTES,
        Class::Smsc95xx => RX_BURST_BYTES,
    }
}

fn bulk_endpoint(address: u8, endpoint: EndpointDescriptor, into_host: bool) -> Endpoint {
    let EndpointDescriptor { number, max_packet } = endpoint;
    Endpoint { address, number, into_host, kind: Kind::Bulk, max_packet, low_speed: false }
}
