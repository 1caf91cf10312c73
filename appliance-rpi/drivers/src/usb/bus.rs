//! The bus: which devices there are, whose turn it is, and the one poll that drives all of it.

use super::attach::{Outcome, PortEvent, PortNext, PortPath, PortTask};
use super::control::{ControlPipe, ControlTarget};
use super::descriptor::MAX_CONFIGURATION;
use super::devices::{Device, Devices, Role, StatusEndpoint, port_bits};
use super::dwc2::{Dwc2, InitError};
use super::errand::NicTask;
use super::hub::{PortRequest, PortStatus, Speed};
use super::layout::{NIC_DMA_BASE, STATUS_DMA_BASE};
use super::nic::{self, NicSlot};
use super::procedure::{Event, Next, Request};
use super::root::RootPort;
use super::transfer::{Endpoint, Kind, Pid, Transfer, TransferError};
use crate::{Clock, DmaMemory, MacAddress, Mmio};

/// Network devices served at once: two of the eight channels each, after one for control and one for status.
pub const NICS: usize = 3;

const STATUS_CHANNEL: usize = 1;
/// Status endpoints are asked this often, whatever they wish for: often enough for a cable, rarely enough for the bus.
const STATUS_POLL_US: u64 = 50_000;
/// An interrupt transfer is one packet; if it has not ended by then, the device is gone.
const STATUS_LIMIT_US: u64 = 20_000;

/// Steps of a task taken in one poll; what is left goes on in the next.
const STEPS_PER_POLL: usize = 8;

/// What happened on the bus, for the status page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusCounters {
    /// Devices that came into service, hubs included.
    pub attached: u64,
    /// Devices that went, or were reset because they failed.
    pub detached: u64,
    /// Ports whose device could not be brought into service.
    pub refused: u64,
    /// Network devices reset because they kept failing.
    pub recovered: u64,
}

/// What became of a device at a port, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// USB address of the hub; 0 is the controller itself.
    pub hub: u8,
    /// The hub's port, from 1.
    pub port: u8,
    /// idVendor and idProduct; `None` when the device did not get as far as telling them.
    pub device: Option<(u16, u16)>,
    /// What it is now.
    pub became: Became,
}

/// What a device became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// A hub in service.
    Hub,
    /// A network device in service, with its slot.
    Network(usize),
    /// A network device too many.
    OneTooMany,
    /// A device without a driver here.
    Idle,
    /// Switched off: it does not answer as it should, there is no address left, or it is slower than the hub it is
    /// behind.
    Refused,
}

enum Task {
    Port(PortTask),
    Nic { index: usize, address: u8, task: NicTask },
}

/// Whom the answer to a control transfer is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Device,
    Port(PortRequest),
}

/// What the task in hand is waiting for.
enum Activity {
    /// Nothing: this has happened and it is its turn.
    Ready(Happened),
    /// The control channel, still busy with a transfer that was cancelled.
    Channel(ControlTarget, Request, Purpose),
    Answer(Purpose),
    Pause(u64),
}

/// What has happened to the task in hand.
enum Happened {
    Begin,
    Forgotten,
    Elapsed,
    Status(PortStatus),
    Answer(Purpose, Result<usize, TransferError>),
}

/// A DesignWare USB host with everything behind its root port.
///
/// Nothing blocks after [`init`](Self::init): call [`poll`](Self::poll) from the main loop, and take the network
/// devices from [`port`](Self::port).
pub struct UsbHost<M, D> {
    host: Dwc2<M, D>,
    root: RootPort,
    control: ControlPipe,
    devices: Devices,
    pub(super) slots: [NicSlot; NICS],
    task: Option<(Task, Activity)>,
    /// Address whose status endpoint is being asked, and until when.
    asking: Option<(u8, u64)>,
    board_mac: MacAddress,
    counters: BusCounters,
    news: Option<News>,
    pub(super) now_us: u64,
}

impl<M: Mmio, D: DmaMemory> UsbHost<M, D> {
    /// Bytes of DMA memory [`new`](Self::new) wants.
    pub const DMA_BYTES: usize = NIC_DMA_BASE + NICS * nic::DMA_BYTES;

    /// `registers` is the controller's block, `dma` a region of [`DMA_BYTES`](Self::DMA_BYTES) below 4 GiB as the
    /// controller sees it, `board_mac` the address for an on-board adapter without one of its own.
    pub fn new(registers: M, dma: D, board_mac: MacAddress) -> Self {
        debug_assert!(dma.len() >= Self::DMA_BYTES);
        Self {
            host: Dwc2::new(registers, dma),
            root: RootPort::default(),
            control: ControlPipe::default(),
            devices: Devices::default(),
            slots: core::array::from_fn(NicSlot::new),
            task: None,
            asking: None,
            board_mac,
            counters: BusCounters::default(),
            news: None,
            now_us: 0,
        }
    }

    /// Resets the controller and powers the root port; about 100 ms. USB power must be on (mailbox, device 3).
    ///
    /// # Errors
    /// [`InitError`]; the host may be polled all the same and will never find a device.
    pub fn init<C: Clock>(&mut self, clock: &mut C) -> Result<(), InitError> {
        self.host.init(clock)?;
        self.root.power(&mut self.host.registers);
        Ok(())
    }

    /// What happened on the bus so far.
    pub fn counters(&self) -> BusCounters {
        self.counters
    }

    /// What the last poll brought to an end, once; a poll ends the work on one port at most.
    pub fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// Drives the bus. Bounded work; call it as often as frames are wanted.
    pub fn poll(&mut self, now_us: u64) {
        self.now_us = now_us;
        let root_changed = self.root.poll(&mut self.host.registers, now_us);
        let halted = self.host.halted();
        for slot in &mut self.slots {
            slot.poll(&mut self.host, halted, now_us);
        }
        self.poll_status(halted);
        let answer = self.control.poll(&mut self.host, halted, now_us);
        if self.task.is_none() {
            self.task = self.next_task(root_changed).map(|task| (task, Activity::Ready(Happened::Begin)));
        }
        self.run_task(answer);
    }

    pub(super) fn slot_and_host(&mut self, index: usize) -> Option<(&mut NicSlot, &mut Dwc2<M, D>)> {
        Some((self.slots.get_mut(index)?, &mut self.host))
    }

    // Status endpoints.

    fn poll_status(&mut self, halted: u32) {
        let completion = if halted & 1 << STATUS_CHANNEL != 0 { self.host.finish(STATUS_CHANNEL) } else { None };
        if let (Some(completion), Some((address, _))) = (completion, self.asking) {
            self.asking = None;
            self.status_answer(address, completion.result, completion.next);
        }
        match self.asking {
            Some((_, deadline)) if self.now_us >= deadline => {
                self.asking = None;
                self.host.cancel(STATUS_CHANNEL);
            }
            Some(_) => {}
            None if self.host.is_idle(STATUS_CHANNEL) => self.ask_next(),
            None => {}
        }
    }

    fn ask_next(&mut self) {
        let now_us = self.now_us;
        for (address, device) in self.devices.iter_mut() {
            let Device { speed, status: Some(status), .. } = device else { continue };
            if status.next_poll > now_us {
                continue;
            }
            status.next_poll = now_us + STATUS_POLL_US;
            let endpoint = Endpoint {
                address,
                number: status.endpoint.number,
                into_host: true,
                kind: Kind::Interrupt,
                max_packet: status.endpoint.max_packet,
                low_speed: *speed == Speed::Low,
            };
            let length = usize::from(status.endpoint.max_packet);
            let transfer = Transfer { endpoint, pid: status.pid, offset: STATUS_DMA_BASE, length };
            self.host.start(STATUS_CHANNEL, transfer);
            self.asking = Some((address, now_us + STATUS_LIMIT_US));
            return;
        }
    }

    fn status_answer(&mut self, address: u8, result: Result<usize, TransferError>, next: Pid) {
        let mut message = [0u8; 64];
        let Some(device) = self.devices.get_mut(address) else { return };
        let Some(status) = device.status.as_mut() else { return };
        let Ok(length) = result else { return };
        status.pid = next;
        let Some(message) = message.get_mut(..length) else { return };
        self.host.dma.read(STATUS_DMA_BASE, message);
        match &mut device.role {
            Role::Hub { hub, pending } => {
                let low = message.first().copied().unwrap_or(0);
                let high = message.get(1).copied().unwrap_or(0);
                *pending |= u16::from_le_bytes([low, high]) & port_bits(hub);
            }
            Role::Nic(index) => {
                let index = *index;
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.notified(message);
                }
            }
            Role::Idle => {}
        }
    }

    // Tasks.

    fn next_task(&mut self, root_changed: bool) -> Option<Task> {
        if root_changed {
            return Some(self.port_task(PortPath { hub: 0, port: 1 }, false));
        }
        if let Some(path) = self.devices.take_pending() {
            return Some(self.port_task(path, false));
        }
        for index in 0..NICS {
            let Some(address) = self.devices.nic(index) else { continue };
            let Some(device) = self.devices.get(address).copied() else { continue };
            let Some(slot) = self.slots.get_mut(index) else { continue };
            if slot.is_failing() {
                self.counters.recovered += 1;
                return Some(self.port_task(device.path, true));
            }
            if let Some((class, errand)) = slot.errand(self.now_us) {
                return Some(Task::Nic { index, address, task: NicTask::new(class, errand, slot.link) });
            }
        }
        None
    }

    fn port_task(&self, path: PortPath, afresh: bool) -> Task {
        let address = self.devices.free_address().unwrap_or(0);
        let behind_high_speed_hub = self.devices.get(path.hub).is_some_and(|hub| hub.speed == Speed::High);
        let occupied = !afresh && self.devices.is_occupied(path);
        Task::Port(PortTask::new(path, address, behind_high_speed_hub, occupied, self.board_mac))
    }

    fn run_task(&mut self, answer: Option<Result<usize, TransferError>>) {
        let mut answer = answer;
        for _ in 0..STEPS_PER_POLL {
            let Some((task, activity)) = self.task.take() else { return };
            let happened = match activity {
                Activity::Ready(happened) => happened,
                Activity::Pause(until) if self.now_us >= until => Happened::Elapsed,
                Activity::Answer(purpose) if answer.is_some() => {
                    Happened::Answer(purpose, answer.take().unwrap_or(Err(TransferError::TimedOut)))
                }
                Activity::Channel(target, request, purpose) => {
                    let activity = self.request(target, request, purpose);
                    self.task = Some((task, activity));
                    return;
                }
                waiting => {
                    self.task = Some((task, waiting));
                    return;
                }
            };
            match task {
                Task::Port(task) => self.run_port_task(task, happened),
                Task::Nic { index, address, task } => self.run_nic_task(index, address, task, happened),
            }
        }
    }

    fn request(&mut self, target: ControlTarget, request: Request, purpose: Purpose) -> Activity {
        if self.control.start(&mut self.host, target, request.setup, &request.out, self.now_us) {
            Activity::Answer(purpose)
        } else {
            Activity::Channel(target, request, purpose)
        }
    }

    fn run_port_task(&mut self, mut task: PortTask, mut happened: Happened) {
        let mut buffer = [0u8; MAX_CONFIGURATION];
        for _ in 0..STEPS_PER_POLL {
            let event = match happened {
                Happened::Begin => PortEvent::Begin,
                Happened::Forgotten => PortEvent::Forgotten,
                Happened::Elapsed => PortEvent::Device(Event::Elapsed),
                Happened::Status(status) => PortEvent::Status(status),
                Happened::Answer(purpose, result) => {
                    let answer = self.answer(result, &mut buffer);
                    match purpose {
                        Purpose::Device => PortEvent::Device(Event::Answer(answer)),
                        Purpose::Port(PortRequest::Status) => match answer.ok().and_then(PortStatus::parse) {
                            Some(status) => PortEvent::Status(status),
                            None => PortEvent::Port(false),
                        },
                        Purpose::Port(_) => PortEvent::Port(answer.is_ok()),
                    }
                }
            };
            let activity = match task.step(event) {
                PortNext::Forget => {
                    self.forget(task.path);
                    happened = Happened::Forgotten;
                    continue;
                }
                PortNext::Port(request) if task.path.hub == 0 => {
                    let status = self.root.request(&mut self.host.registers, request, self.now_us);
                    happened = match request {
                        PortRequest::Status => Happened::Status(status),
                        request => Happened::Answer(Purpose::Port(request), Ok(0)),
                    };
                    continue;
                }
                PortNext::Port(request) => {
                    let Some(target) = self.devices.target(task.path.hub) else { return };
                    self.request(target, request.setup(task.path.port).into(), Purpose::Port(request))
                }
                PortNext::Device(Next::Request(request)) => self.request(task.target(), request, Purpose::Device),
                PortNext::Device(Next::Wait(us)) => Activity::Pause(self.now_us + us),
                PortNext::Device(Next::Done(outcome)) => return self.port_done(&task, outcome),
                PortNext::Device(Next::Failed) => return self.port_done(&task, Outcome::Empty),
            };
            self.task = Some((Task::Port(task), activity));
            return;
        }
        // Only the root port answers at once; it goes on in the next poll.
        self.task = Some((Task::Port(task), Activity::Ready(happened)));
    }

    fn run_nic_task(&mut self, index: usize, address: u8, mut task: NicTask, happened: Happened) {
        let mut buffer = [0u8; MAX_CONFIGURATION];
        let event = match happened {
            Happened::Answer(_, result) => Event::Answer(self.answer(result, &mut buffer)),
            Happened::Elapsed => Event::Elapsed,
            Happened::Begin | Happened::Forgotten | Happened::Status(_) => Event::Begin,
        };
        let Some(target) = self.devices.target(address) else { return };
        let activity = match task.step(event) {
            Next::Request(request) => self.request(target, request, Purpose::Device),
            Next::Wait(us) => Activity::Pause(self.now_us + us),
            Next::Done(link) => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.set_link(link);
                    slot.errand_done(task.errand(), true, self.now_us);
                }
                return;
            }
            Next::Failed => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.errand_done(task.errand(), false, self.now_us);
                }
                return;
            }
        };
        self.task = Some((Task::Nic { index, address, task }, activity));
    }

    fn answer<'a>(
        &self,
        result: Result<usize, TransferError>,
        buffer: &'a mut [u8; MAX_CONFIGURATION],
    ) -> Result<&'a [u8], TransferError> {
        let answer = buffer.get_mut(..result?).unwrap_or_default();
        ControlPipe::answer(&self.host, answer);
        Ok(answer)
    }

    fn port_done(&mut self, task: &PortTask, outcome: Outcome) {
        // What the hub reported meanwhile is what the task has just dealt with; anything newer it reports again.
        self.devices.clear_pending(task.path);
        let role = match outcome {
            Outcome::Unchanged => return,
            Outcome::Empty => {
                if task.was_tried() {
                    self.counters.refused += 1;
                    self.tell(task, Became::Refused);
                }
                self.forget(task.path);
                if task.path.hub == 0 {
                    self.host.abandon_halting();
                }
                return;
            }
            Outcome::Hub(hub) => Role::Hub { hub, pending: port_bits(&hub) },
            Outcome::Nic(binding) => match self.free_slot(binding.mac) {
                Some(index) => {
                    if let Some(slot) = self.slots.get_mut(index) {
                        slot.attach(task.address, binding, self.now_us);
                    }
                    Role::Nic(index)
                }
                None => Role::Idle,
            },
            Outcome::Idle => Role::Idle,
        };
        self.tell(
            task,
            match (&outcome, role) {
                (_, Role::Hub { .. }) => Became::Hub,
                (_, Role::Nic(slot)) => Became::Network(slot),
                (Outcome::Nic(_), Role::Idle) => Became::OneTooMany,
                (_, Role::Idle) => Became::Idle,
            },
        );
        let endpoint = match (&outcome, role) {
            (Outcome::Hub(hub), _) => Some(hub.endpoint),
            (Outcome::Nic(binding), Role::Nic(_)) => binding.notify,
            _ => None,
        };
        let status = endpoint.map(|endpoint| StatusEndpoint { endpoint, pid: Pid::Data0, next_poll: self.now_us });
        let PortTask { path, speed, control_packet, address, .. } = *task;
        let device = Device { path, speed, control_packet, role, status };
        self.counters.attached += u64::from(self.devices.insert(address, device));
    }

    fn tell(&mut self, task: &PortTask, became: Became) {
        let PortPath { hub, port } = task.path;
        self.news = Some(News { hub, port, device: task.identity(), became });
    }

    /// The slot the device had before, else one never used, else any free one.
    fn free_slot(&self, mac: MacAddress) -> Option<usize> {
        let free =
            |wanted: &dyn Fn(&NicSlot) -> bool| self.slots.iter().position(|slot| slot.is_free() && wanted(slot));
        free(&|slot| slot.mac == Some(mac)).or_else(|| free(&|slot| slot.mac.is_none())).or_else(|| free(&|_| true))
    }

    /// Forgets the device at a port and everything behind it.
    fn forget(&mut self, path: PortPath) {
        let Some((address, device)) = self.devices.remove_at(path) else { return };
        if self.asking.is_some_and(|(asked, _)| asked == address) {
            self.asking = None;
            self.host.cancel(STATUS_CHANNEL);
        }
        self.counters.detached += 1;
        match device.role {
            Role::Nic(slot) => {
                if let Some(slot) = self.slots.get_mut(slot) {
                    slot.detach(&mut self.host);
                }
            }
            // Each call takes one device off the table, so this ends.
            Role::Hub { hub, .. } => {
                for port in 1..=hub.ports {
                    self.forget(PortPath { hub: address, port });
                }
            }
            Role::Idle => {}
        }
    }
}
