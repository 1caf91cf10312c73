//! From a change at a port to a device in service: debounce, reset, address, descriptors, configuration, class setup.

use super::control::ControlTarget;
use super::descriptor::{
    BulkPair, CONFIGURATION, ConfigurationHeader, DEVICE, DeviceDescriptor, EcmFunction, Function, find_function,
};
use super::ecm::EcmSetup;
use super::hub::{Hub, HubSetup, PortRequest, PortStatus, Speed, change, status};
use super::nic::{Binding, Class};
use super::procedure::{Event, Next};
use super::setup::Setup;
use super::smsc95xx::SmscSetup;
use crate::MacAddress;

/// A connection must hold this long before it is believed (USB 2.0 section 7.1.7.3).
const DEBOUNCE_US: u64 = 100_000;
/// How often and how far apart a hub is asked whether it has finished a reset.
const RESET_POLL_US: u64 = 10_000;
const RESET_POLLS: u8 = 30;
/// Rest after a reset (USB 2.0 section 7.1.7.5: 10 ms) and after SetAddress (section 9.2.6.3: 2 ms), with some room.
const RECOVERY_US: u64 = 20_000;
const ADDRESS_SETTLE_US: u64 = 5_000;
/// How often a device that fails is reset and tried again.
const ATTEMPTS: u8 = 3;
/// A port's changes are acknowledged this many times before it counts as broken.
const ACKNOWLEDGEMENTS: u8 = 16;
/// Configurations looked at.
const CONFIGURATIONS: u8 = 8;

/// Where a device hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortPath {
    /// Address of the hub; 0 for the root port.
    pub(super) hub: u8,
    /// Port number from 1.
    pub(super) port: u8,
}

/// What became of a port.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// Nothing is connected, or what is cannot be used and was switched off.
    Empty,
    /// The device there is as it was.
    Unchanged,
    Hub(Hub),
    Nic(Binding),
    /// A device of a class without a driver; it stays addressed and idle.
    Idle,
}

/// What to do next about a port.
#[derive(Clone, Copy, Debug)]
pub(super) enum PortNext {
    /// A request to the port; the answer is its status afterwards where the request was for that.
    Port(PortRequest),
    /// Forget the device that was at this port, then go on with [`PortEvent::Forgotten`].
    Forget,
    /// Something for the device being attached, or a pause.
    Device(Next<Outcome>),
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum PortEvent<'a> {
    Begin,
    Status(PortStatus),
    /// The port request was done, or failed.
    Port(bool),
    Forgotten,
    Device(Event<'a>),
}

#[derive(Debug)]
enum ClassSetup {
    Hub(HubSetup),
    Ecm(EcmFunction, EcmSetup),
    Smsc(BulkPair, SmscSetup),
}

#[derive(Debug)]
enum Step {
    /// Asking for the status and acknowledging changes until there are none.
    Inspect,
    Debounce,
    Debounced,
    Reset,
    ResetWait,
    ResetStatus,
    /// Acknowledging the reset, then that the port is enabled: the root port calls that a change.
    ResetAcknowledge(Speed),
    EnableAcknowledge(Speed),
    Recovery,
    ShortDescriptor,
    Address,
    AddressSettle,
    Descriptor,
    ConfigurationHeader,
    Configuration(ConfigurationHeader),
    Configure(Function),
    Class(ClassSetup),
    SwitchOff,
    SwitchOffAcknowledge,
}

/// The work on one change at one port.
#[derive(Debug)]
pub(super) struct PortTask {
    pub(super) path: PortPath,
    step: Step,
    /// Changes seen while inspecting, and how many were acknowledged.
    changes: u16,
    acknowledged: u8,
    polls: u8,
    attempt: u8,
    /// The address the device gets; 0 when none is left, and then it is switched off.
    pub(super) address: u8,
    pub(super) speed: Speed,
    pub(super) control_packet: u16,
    addressed: bool,
    descriptor: Option<DeviceDescriptor>,
    configuration: u8,
    /// The hub talks high speed: a slower device would need split transactions, which this stack does not do.
    behind_high_speed_hub: bool,
    /// Whether a device is known at this port.
    occupied: bool,
    /// Station address for adapters that bring none.
    board_mac: MacAddress,
}

impl PortTask {
    pub(super) fn new(
        path: PortPath,
        address: u8,
        behind_high_speed_hub: bool,
        occupied: bool,
        board_mac: MacAddress,
    ) -> Self {
        Self {
            path,
            step: Step::Inspect,
            changes: 0,
            acknowledged: 0,
            polls: 0,
            attempt: 0,
            address,
            speed: Speed::Full,
            control_packet: 8,
            addressed: false,
            descriptor: None,
            configuration: 0,
            behind_high_speed_hub,
            occupied,
            board_mac,
        }
    }

    /// Where control transfers of this task go.
    pub(super) fn target(&self) -> ControlTarget {
        ControlTarget {
            address: if self.addressed { self.address } else { 0 },
            max_packet: self.control_packet,
            low_speed: self.speed == Speed::Low,
        }
    }

    /// idVendor and idProduct of the device, once it has told them.
    pub(super) fn identity(&self) -> Option<(u16, u16)> {
        self.descriptor.map(|descriptor| (descriptor.vendor, descriptor.product))
    }

    /// Whether a device was there and got as far as a reset.
    pub(super) fn was_tried(&self) -> bool {
        self.attempt > 0 || matches!(self.step, Step::SwitchOffAcknowledge)
    }

    pub(super) fn step(&mut self, event: PortEvent<'_>) -> PortNext {
        match (&mut self.step, event) {
            (Step::Inspect, PortEvent::Begin | PortEvent::Port(true)) => PortNext::Port(PortRequest::Status),
            (Step::Inspect, PortEvent::Status(port)) => self.inspect(port),
            (Step::Debounce, PortEvent::Forgotten) => PortNext::Device(Next::Wait(DEBOUNCE_US)),
            (Step::Debounce, PortEvent::Device(Event::Elapsed)) => {
                self.step = Step::Debounced;
                PortNext::Port(PortRequest::Status)
            }
            (Step::Debounced, PortEvent::Status(port)) => {
                if !port.is(status::CONNECTION) {
                    return PortNext::Device(Next::Done(Outcome::Empty));
                }
                if port.change & change::CONNECTION != 0 {
                    // It bounced: begin again.
                    self.step = Step::Inspect;
                    return self.inspect(port);
                }
                self.reset()
            }
            (Step::Reset, PortEvent::Port(true)) => {
                self.step = Step::ResetWait;
                PortNext::Device(Next::Wait(RESET_POLL_US))
            }
            (Step::ResetWait, PortEvent::Device(Event::Elapsed)) => {
                self.step = Step::ResetStatus;
                PortNext::Port(PortRequest::Status)
            }
            (Step::ResetStatus, PortEvent::Status(port)) => self.reset_status(port),
            (Step::ResetAcknowledge(speed), PortEvent::Port(true)) => {
                self.step = Step::EnableAcknowledge(*speed);
                PortNext::Port(PortRequest::Clear(change::ENABLE))
            }
            (Step::EnableAcknowledge(speed), PortEvent::Port(true)) => {
                let speed = *speed;
                self.begin_device(speed)
            }
            (Step::SwitchOff, PortEvent::Port(_)) => {
                self.step = Step::SwitchOffAcknowledge;
                PortNext::Port(PortRequest::Clear(change::ENABLE))
            }
            (Step::SwitchOffAcknowledge, PortEvent::Port(_)) => PortNext::Device(Next::Done(Outcome::Empty)),
            (Step::Inspect | Step::Debounced | Step::ResetStatus, PortEvent::Port(false)) => {
                // The hub itself does not answer; if it has gone, its own port will say so.
                PortNext::Device(Next::Done(Outcome::Empty))
            }
            (_, PortEvent::Device(event)) => self.device(event),
            _ => self.retry(),
        }
    }

    fn inspect(&mut self, port: PortStatus) -> PortNext {
        self.changes |= port.change;
        let pending = change::ALL.into_iter().find(|&bit| port.change & bit != 0);
        if let Some(bit) = pending.filter(|_| self.acknowledged < ACKNOWLEDGEMENTS) {
            self.acknowledged += 1;
            return PortNext::Port(PortRequest::Clear(bit));
        }
        // A port that was disabled has lost its device even where the connection held; the change bit alone says
        // little, some hubs also set it when a reset enables the port.
        let kept = port.is(status::ENABLE) && self.changes & change::CONNECTION == 0;
        if port.is(status::CONNECTION) && self.occupied && kept {
            return PortNext::Device(Next::Done(Outcome::Unchanged));
        }
        if !port.is(status::CONNECTION) {
            return PortNext::Device(Next::Done(Outcome::Empty));
        }
        self.step = Step::Debounce;
        PortNext::Forget
    }

    fn reset(&mut self) -> PortNext {
        self.step = Step::Reset;
        self.polls = 0;
        self.addressed = false;
        self.configuration = 0;
        PortNext::Port(PortRequest::Reset)
    }

    fn reset_status(&mut self, port: PortStatus) -> PortNext {
        if !port.is(status::CONNECTION) {
            return PortNext::Device(Next::Done(Outcome::Empty));
        }
        let over = port.change & change::RESET != 0 && !port.is(status::RESET);
        // A port may take a while from the end of its reset until it is enabled.
        if !(over && port.is(status::ENABLE)) {
            self.polls += 1;
            if self.polls >= RESET_POLLS {
                return if over { self.retry() } else { self.switch_off() };
            }
            self.step = Step::ResetWait;
            return PortNext::Device(Next::Wait(RESET_POLL_US));
        }
        self.step = Step::ResetAcknowledge(port.speed());
        PortNext::Port(PortRequest::Clear(change::RESET))
    }

    fn begin_device(&mut self, speed: Speed) -> PortNext {
        let needs_splits = self.behind_high_speed_hub && speed != Speed::High;
        if needs_splits || self.address == 0 {
            return self.switch_off();
        }
        self.speed = speed;
        // The first eight bytes of the device descriptor fit one packet of any size.
        self.control_packet = if speed == Speed::Low { 8 } else { 64 };
        self.step = Step::Recovery;
        PortNext::Device(Next::Wait(RECOVERY_US))
    }

    fn retry(&mut self) -> PortNext {
        self.attempt += 1;
        if self.attempt < ATTEMPTS { self.reset() } else { self.switch_off() }
    }

    fn switch_off(&mut self) -> PortNext {
        self.step = Step::SwitchOff;
        PortNext::Port(PortRequest::Disable)
    }

    fn device(&mut self, event: Event<'_>) -> PortNext {
        let next = self.device_step(event);
        if matches!(next, Next::Failed) { self.retry() } else { PortNext::Device(next) }
    }

    fn device_step(&mut self, event: Event<'_>) -> Next<Outcome> {
        match (&mut self.step, event) {
            (Step::Recovery, Event::Elapsed) => {
                self.step = Step::ShortDescriptor;
                Next::request(Setup::descriptor(DEVICE, 0, 0, 8))
            }
            (Step::ShortDescriptor, Event::Answer(Ok(answer))) => {
                let Ok(packet) = DeviceDescriptor::control_packet(answer) else { return Next::Failed };
                self.control_packet = packet;
                self.step = Step::Address;
                Next::request(Setup::set_address(self.address))
            }
            (Step::Address, Event::Answer(Ok(_))) => {
                self.addressed = true;
                self.step = Step::AddressSettle;
                Next::Wait(ADDRESS_SETTLE_US)
            }
            (Step::AddressSettle, Event::Elapsed) => {
                self.step = Step::Descriptor;
                Next::request(Setup::descriptor(DEVICE, 0, 0, 18))
            }
            (Step::Descriptor, Event::Answer(Ok(answer))) => {
                let Ok(descriptor) = DeviceDescriptor::parse(answer) else { return Next::Failed };
                self.descriptor = Some(descriptor);
                self.next_configuration()
            }
            (Step::ConfigurationHeader, Event::Answer(Ok(answer))) => match ConfigurationHeader::parse(answer) {
                Ok(header) => {
                    let request = Setup::descriptor(CONFIGURATION, self.configuration, 0, header.total);
                    self.step = Step::Configuration(header);
                    Next::request(request)
                }
                Err(_) => self.skip_configuration(),
            },
            (Step::Configuration(header), Event::Answer(Ok(answer))) => {
                let value = header.value;
                let Some(descriptor) = self.descriptor else { return Next::Failed };
                match find_function(&descriptor, answer) {
                    Ok(Some(function)) => {
                        self.step = Step::Configure(function);
                        Next::request(Setup::set_configuration(value))
                    }
                    _ => self.skip_configuration(),
                }
            }
            (Step::Configure(function), Event::Answer(Ok(_))) => {
                let setup = match *function {
                    Function::Hub(endpoint) => ClassSetup::Hub(HubSetup::new(endpoint)),
                    Function::Ecm(ecm) => ClassSetup::Ecm(ecm, EcmSetup::new(ecm)),
                    Function::Smsc95xx(bulk) => {
                        ClassSetup::Smsc(bulk, SmscSetup::new(self.board_mac, bulk.input.max_packet))
                    }
                };
                self.step = Step::Class(setup);
                self.class_step(Event::Begin)
            }
            (Step::Class(_), event) => self.class_step(event),
            _ => Next::Failed,
        }
    }

    fn class_step(&mut self, event: Event<'_>) -> Next<Outcome> {
        let Step::Class(class) = &mut self.step else { return Next::Failed };
        match class {
            ClassSetup::Hub(setup) => setup.step(event).map(Outcome::Hub),
            ClassSetup::Ecm(ecm, setup) => {
                let ecm = *ecm;
                setup.step(event).map(|mac| Outcome::Nic(Binding::new(Class::Ecm(ecm), mac, ecm.bulk, ecm.notify)))
            }
            ClassSetup::Smsc(bulk, setup) => {
                let bulk = *bulk;
                setup.step(event).map(|mac| Outcome::Nic(Binding::new(Class::Smsc95xx, mac, bulk, None)))
            }
        }
    }

    fn skip_configuration(&mut self) -> Next<Outcome> {
        self.configuration += 1;
        self.next_configuration()
    }

    fn next_configuration(&mut self) -> Next<Outcome> {
        let present = self.descriptor.map_or(0, |descriptor| descriptor.configurations);
        if self.configuration >= present.min(CONFIGURATIONS) {
            return Next::Done(Outcome::Idle);
        }
        self.step = Step::ConfigurationHeader;
        Next::request(Setup::descriptor(CONFIGURATION, self.configuration, 0, 9))
    }
}
