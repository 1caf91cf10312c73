//! Registers of the Synopsys DesignWare USB 2.0 OTG controller, the part a host in buffer-DMA mode needs.
//!
//! Sources, two of different ancestry for each constant:
//! **C** = Circle `include/circle/usb/dwhci.h`, **F** = FreeBSD `sys/dev/usb/controller/dwc_otgreg.h`,
//! **L** = Linux `drivers/usb/dwc2/hw.h`, **U** = U-Boot `drivers/usb/common/dwc2_core.h`.

/// AHB configuration (C, F).
pub(super) const GAHBCFG: usize = 0x008;
/// The core raises its interrupt line (C, F).
pub(super) const GAHBCFG_INTERRUPTS: u32 = 1 << 0;
/// BCM283x meaning of the burst field: wait for outstanding AXI writes (C; L `params.c` sets the same bit for BCM2835).
pub(super) const GAHBCFG_WAIT_AXI_WRITES: u32 = 1 << 4;
/// The core moves data by itself (C, F).
pub(super) const GAHBCFG_DMA: u32 = 1 << 5;

/// USB configuration (C, F).
pub(super) const GUSBCFG: usize = 0x00C;
/// 16-bit PHY interface; clear for 8 bit (C, F).
pub(super) const GUSBCFG_PHY_16BIT: u32 = 1 << 3;
/// ULPI instead of UTMI+ (C, F).
pub(super) const GUSBCFG_ULPI: u32 = 1 << 4;
/// Session request protocol (C, F).
pub(super) const GUSBCFG_SRP: u32 = 1 << 8;
/// Host negotiation protocol (C, F).
pub(super) const GUSBCFG_HNP: u32 = 1 << 9;
/// ULPI full-speed serial interface (C, F).
pub(super) const GUSBCFG_ULPI_FSLS: u32 = 1 << 17;
/// ULPI clock suspend (C, F).
pub(super) const GUSBCFG_ULPI_CLOCK_SUSPEND: u32 = 1 << 19;
/// ULPI external VBUS drive (C, F).
pub(super) const GUSBCFG_ULPI_EXTERNAL_VBUS: u32 = 1 << 20;
/// Data line pulsing through TermSel (C, F).
pub(super) const GUSBCFG_TERM_SEL_PULSE: u32 = 1 << 22;
/// Host mode whatever the ID pin says (F, L).
pub(super) const GUSBCFG_FORCE_HOST: u32 = 1 << 29;
/// Device mode whatever the ID pin says (C, F).
pub(super) const GUSBCFG_FORCE_DEVICE: u32 = 1 << 30;

/// Reset control (C, F).
pub(super) const GRSTCTL: usize = 0x010;
/// Core soft reset, clears itself (C, F).
pub(super) const GRSTCTL_CORE_RESET: u32 = 1 << 0;
/// Flush the receive FIFO, clears itself (C, F).
pub(super) const GRSTCTL_RX_FLUSH: u32 = 1 << 4;
/// Flush transmit FIFOs, clears itself (C, F).
pub(super) const GRSTCTL_TX_FLUSH: u32 = 1 << 5;
/// FIFO number 16 of the flush: all of them (C `FlushTxFIFO (0x10)`, U `GRSTCTL_TXFNUM_ALL`).
pub(super) const GRSTCTL_TX_ALL: u32 = 0x10 << 6;
/// The AHB master is idle (C, F).
pub(super) const GRSTCTL_AHB_IDLE: u32 = 1 << 31;

/// Core interrupt status (C, F).
pub(super) const GINTSTS: usize = 0x014;
/// The core is in host mode (C, F).
pub(super) const GINTSTS_HOST_MODE: u32 = 1 << 0;
/// The root port has something to say (C, F).
pub(super) const GINTSTS_PORT: u32 = 1 << 24;
/// A host channel has something to say (C, F).
pub(super) const GINTSTS_CHANNEL: u32 = 1 << 25;

/// Core interrupt mask (C, F).
pub(super) const GINTMSK: usize = 0x018;

/// Receive FIFO depth in words (C, F).
pub(super) const GRXFSIZ: usize = 0x024;
/// Non-periodic transmit FIFO: depth in bits 16.., start in bits 0..16 (C, F).
pub(super) const GNPTXFSIZ: usize = 0x028;
/// Periodic transmit FIFO, same layout (C, F).
pub(super) const HPTXFSIZ: usize = 0x100;

/// Identity: "OT" in the upper half, release in the lower (F `DOTG_GSNPSID_REV_*`, L `core.h`).
pub(super) const GSNPSID: usize = 0x040;
/// Release 2.94a, which QEMU's model claims to be (QEMU `hcd-dwc2.c` reset values, L `core.h` `DWC2_CORE_REV_2_94a`);
/// the Raspberry Pi has 2.80a.
pub(super) const GSNPSID_QEMU: u32 = 0x4F54_294A;
/// Upper half of the identity (F, L).
pub(super) const GSNPSID_OTG: u32 = 0x4F54_0000;

/// Hardware configuration 2 (C, F).
pub(super) const GHWCFG2: usize = 0x048;
/// Field of the DMA architecture (C, F).
pub(super) const GHWCFG2_ARCHITECTURE_SHIFT: u32 = 3;
/// Internal DMA (C `InitCore`, U `GHWCFG2_INT_DMA_ARCH`).
pub(super) const GHWCFG2_INTERNAL_DMA: u32 = 2;
/// Field of the number of host channels, less one (C, F).
pub(super) const GHWCFG2_CHANNELS_SHIFT: u32 = 14;
/// FIFO sizes can be set (F, L).
pub(super) const GHWCFG2_DYNAMIC_FIFO: u32 = 1 << 19;

/// Hardware configuration 3; depth of the FIFO memory in words in bits 16.. (C, F).
pub(super) const GHWCFG3: usize = 0x04C;

/// Host configuration; bits 0..2 select the PHY clock, 0 for a high-speed PHY (C, F).
pub(super) const HCFG: usize = 0x400;
/// PHY clock selection (C, F).
pub(super) const HCFG_CLOCK_MASK: u32 = 3;
/// Frame number; bit 0 is the parity of the running (micro)frame (C, F).
pub(super) const HFNUM: usize = 0x408;
/// One bit for each channel whose unmasked interrupt is pending (C, F).
pub(super) const HAINT: usize = 0x414;
/// Mask of the former (C, F).
pub(super) const HAINTMSK: usize = 0x418;

/// Root port control and status (C, F).
pub(super) const HPRT: usize = 0x440;
/// A device is connected (C, F).
pub(super) const HPRT_CONNECTED: u32 = 1 << 0;
/// Connection detected, write 1 to clear (C, F).
pub(super) const HPRT_CONNECT_CHANGE: u32 = 1 << 1;
/// Port enabled by a reset; **writing 1 disables it** (C, F).
pub(super) const HPRT_ENABLED: u32 = 1 << 2;
/// Enable changed, write 1 to clear (C, F).
pub(super) const HPRT_ENABLE_CHANGE: u32 = 1 << 3;
/// Over-current (C, F).
pub(super) const HPRT_OVER_CURRENT: u32 = 1 << 4;
/// Over-current changed, write 1 to clear (C, F).
pub(super) const HPRT_OVER_CURRENT_CHANGE: u32 = 1 << 5;
/// Drive reset on the bus (C, F).
pub(super) const HPRT_RESET: u32 = 1 << 8;
/// Port power (C, F).
pub(super) const HPRT_POWER: u32 = 1 << 12;
/// Field of the speed: 0 high, 1 full, 2 low (C, F).
pub(super) const HPRT_SPEED_SHIFT: u32 = 17;
/// Every bit that acts when written as 1 (C `DEFAULT_MASK`, U `HPRT0_W1C_MASK`).
pub(super) const HPRT_WRITE_ONE: u32 =
    HPRT_CONNECT_CHANGE | HPRT_ENABLED | HPRT_ENABLE_CHANGE | HPRT_OVER_CURRENT_CHANGE;

/// First channel's registers and the distance between channels (C, F).
pub(super) const CHANNEL_BASE: usize = 0x500;
/// Distance between channels (C, F).
pub(super) const CHANNEL_STRIDE: usize = 0x20;

/// Channel characteristics (C, F).
pub(super) const HCCHAR: usize = 0x00;
/// Maximum packet size in bits 0..11 (C, F).
pub(super) const HCCHAR_ENDPOINT_SHIFT: u32 = 11;
/// Direction in (C, F).
pub(super) const HCCHAR_IN: u32 = 1 << 15;
/// Low-speed device (C, F).
pub(super) const HCCHAR_LOW_SPEED: u32 = 1 << 17;
/// Endpoint type: 0 control, 2 bulk, 3 interrupt (C, F).
pub(super) const HCCHAR_TYPE_SHIFT: u32 = 18;
/// Packets per (micro)frame, 1 for what is not high-bandwidth (C, F).
pub(super) const HCCHAR_MULTI_ONE: u32 = 1 << 20;
/// Device address (C, F).
pub(super) const HCCHAR_ADDRESS_SHIFT: u32 = 22;
/// A periodic transfer goes out in an odd (micro)frame (C, F).
pub(super) const HCCHAR_ODD_FRAME: u32 = 1 << 29;
/// Stop the channel (C, F).
pub(super) const HCCHAR_DISABLE: u32 = 1 << 30;
/// Run the channel (C, F).
pub(super) const HCCHAR_ENABLE: u32 = 1 << 31;

/// Split transaction control; 0 for none (C, F).
pub(super) const HCSPLT: usize = 0x04;

/// Channel interrupt status, write 1 to clear (C, F).
pub(super) const HCINT: usize = 0x08;
/// Channel interrupt mask, same bits (C, F).
pub(super) const HCINTMSK: usize = 0x0C;
/// Transfer complete (C, F).
pub(super) const HCINT_COMPLETE: u32 = 1 << 0;
/// Channel halted (C, F).
pub(super) const HCINT_HALTED: u32 = 1 << 1;
/// AHB error during DMA (C, F).
pub(super) const HCINT_AHB_ERROR: u32 = 1 << 2;
/// Stall handshake (C, F).
pub(super) const HCINT_STALL: u32 = 1 << 3;
/// Not-acknowledge handshake (C, F).
pub(super) const HCINT_NAK: u32 = 1 << 4;
/// Acknowledge handshake (C, F).
pub(super) const HCINT_ACK: u32 = 1 << 5;
/// The device took the packet and has no room for another (C, F).
pub(super) const HCINT_NYET: u32 = 1 << 6;
/// Transaction error: CRC, time-out, bit stuffing (C, F).
pub(super) const HCINT_TRANSACTION_ERROR: u32 = 1 << 7;
/// Babble (C, F).
pub(super) const HCINT_BABBLE: u32 = 1 << 8;
/// Wrong data toggle (C, F).
pub(super) const HCINT_TOGGLE_ERROR: u32 = 1 << 10;
/// Every status bit of a channel (C highest bit 10, U clears with 0x3FFF).
pub(super) const HCINT_ALL: u32 = 0x3FFF;

/// Transfer size: bytes in bits 0..19 (C, F).
pub(super) const HCTSIZ: usize = 0x10;
/// Bytes (C, F).
pub(super) const HCTSIZ_BYTES_MASK: u32 = 0x7_FFFF;
/// Packet count (C, F).
pub(super) const HCTSIZ_PACKETS_SHIFT: u32 = 19;
/// Packet count (C, F).
pub(super) const HCTSIZ_PACKETS_MASK: u32 = 0x3FF;
/// Packet id of the next data packet: 0 DATA0, 2 DATA1, 3 SETUP (C, F).
pub(super) const HCTSIZ_PID_SHIFT: u32 = 29;

/// DMA address, a multiple of 4 (C, F).
pub(super) const HCDMA: usize = 0x14;

/// Power and clock gating; 0 lets every clock run (C `InitHost`, F).
pub(super) const PCGCCTL: usize = 0xE00;
