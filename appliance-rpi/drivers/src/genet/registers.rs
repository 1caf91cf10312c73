//! Registers of GENET v5 as in the BCM2711, from the start of its 64 KiB block.
//!
//! Sources, two of different ancestry for each constant: **N** = NetBSD `sys/dev/ic/bcmgenetreg.h` (OpenBSD uses the
//! same), **C** = Circle `lib/bcm54213.cpp`, **U** = U-Boot `drivers/net/bcmgenet.c`, **L** = Linux
//! `drivers/net/ethernet/broadcom/genet/bcmgenet.h`. Circle, U-Boot and Linux share facts; N was written beside them.

/// Revision; major in bits 24..28 (N, C).
pub(super) const SYS_REV_CTRL: usize = 0x000;
/// The major field of GENET v5 reads 6 (C `Initialize`, N `SYS_REV_MAJOR` and its driver).
pub(super) const SYS_REV_V5: u32 = 6;
/// Port mode (N, C).
pub(super) const SYS_PORT_CTRL: usize = 0x004;
/// External gigabit PHY (N, C).
pub(super) const PORT_MODE_EXTERNAL_GPHY: u32 = 3;
/// Receive buffer flush (N, C).
pub(super) const SYS_RBUF_FLUSH: usize = 0x008;
/// Reset of the receive buffer (N, U).
pub(super) const RBUF_FLUSH_RESET: u32 = 1 << 1;

/// RGMII block (N, C).
pub(super) const EXT_RGMII_OOB: usize = 0x08C;
/// The link is up (N, C).
pub(super) const RGMII_LINK: u32 = 1 << 4;
/// No out-of-band signalling (N, C).
pub(super) const RGMII_OOB_DISABLE: u32 = 1 << 5;
/// RGMII is in use (N, C).
pub(super) const RGMII_MODE: u32 = 1 << 6;
/// No internal delay: the PHY of the Pi 4 delays (C `mii_config`, U for rgmii-rxid).
pub(super) const RGMII_ID_MODE_DISABLE: u32 = 1 << 16;

/// The two interrupt controllers (N first, C both).
pub(super) const INTRL2: [usize; 2] = [0x200, 0x240];
/// Status, from the start of a controller (N, C).
pub(super) const INTRL2_STATUS: usize = 0x00;
/// Write 1 to clear status (N, C).
pub(super) const INTRL2_CLEAR: usize = 0x08;
/// Write 1 to mask (N, C).
pub(super) const INTRL2_MASK_SET: usize = 0x10;

/// Receive buffer control (N, C).
pub(super) const RBUF_CTRL: usize = 0x300;
/// 64 bytes of status before each received frame (N, C).
pub(super) const RBUF_STATUS_BLOCK: u32 = 1 << 0;
/// Two bytes before each received frame, after the status block if there is one (N, C).
pub(super) const RBUF_ALIGN: u32 = 1 << 1;
/// Frames lost for want of room in the receive buffer (C `RBUF_OVFL_CNT_V3PLUS`, L).
pub(super) const RBUF_OVERFLOWS: usize = 0x394;
/// Frames with errors (C `RBUF_ERR_CNT_V3PLUS`, L).
pub(super) const RBUF_ERRORS: usize = 0x398;
/// Where the transmit buffer starts (N, U).
pub(super) const RBUF_TBUF_SIZE: usize = 0x3B4;

/// Transmit buffer control (C `TBUF_CTRL`, L `GENET_TBUF_OFF`).
pub(super) const TBUF_CTRL: usize = 0x600;
/// 64 bytes of status before each frame to send (C, L).
pub(super) const TBUF_STATUS_BLOCK: u32 = 1 << 0;

/// MAC command (N, C).
pub(super) const UMAC_CMD: usize = 0x808;
/// Transmitter on (N, C).
pub(super) const CMD_TX: u32 = 1 << 0;
/// Receiver on (N, C).
pub(super) const CMD_RX: u32 = 1 << 1;
/// Speed: 0 for 10, 1 for 100, 2 for 1000 Mbit/s (N, C).
pub(super) const CMD_SPEED_SHIFT: u32 = 2;
/// Speed (N, C).
pub(super) const CMD_SPEED_MASK: u32 = 3 << CMD_SPEED_SHIFT;
/// Every address is received (N, C).
pub(super) const CMD_PROMISCUOUS: u32 = 1 << 4;
/// Pause frames are not obeyed (C, L).
pub(super) const CMD_RX_PAUSE_IGNORE: u32 = 1 << 8;
/// Half duplex (C, L).
pub(super) const CMD_HALF_DUPLEX: u32 = 1 << 10;
/// Reset of the MAC (N, C).
pub(super) const CMD_RESET: u32 = 1 << 13;
/// Local loopback (N, C).
pub(super) const CMD_LOOPBACK: u32 = 1 << 15;
/// Pause frames are not sent (C, L).
pub(super) const CMD_TX_PAUSE_IGNORE: u32 = 1 << 28;
/// First four octets of the station address, first in the upper byte (N, U).
pub(super) const UMAC_MAC0: usize = 0x80C;
/// Last two octets (N, U).
pub(super) const UMAC_MAC1: usize = 0x810;
/// Longest frame (N, C).
pub(super) const UMAC_MAX_FRAME: usize = 0x814;
/// Flush of the transmitter (N, C).
pub(super) const UMAC_TX_FLUSH: usize = 0xB34;
/// Reset of the counters: receive, runt, transmit in bits 0, 1, 2 (N, C).
pub(super) const UMAC_MIB_CTRL: usize = 0xD80;
/// All of them (N, C).
pub(super) const MIB_RESET: u32 = 0b111;
/// MDIO command and data (N, C).
pub(super) const MDIO_CMD: usize = 0xE14;
/// Starts, and stays set until done (N, C).
pub(super) const MDIO_BUSY: u32 = 1 << 29;
/// The PHY did not answer (C, U).
pub(super) const MDIO_READ_FAIL: u32 = 1 << 28;
/// Read (N, C).
pub(super) const MDIO_READ: u32 = 1 << 27;
/// Write (N, C).
pub(super) const MDIO_WRITE: u32 = 1 << 26;
/// PHY address (N, C).
pub(super) const MDIO_PHY_SHIFT: u32 = 21;
/// PHY register (N, C).
pub(super) const MDIO_REGISTER_SHIFT: u32 = 16;
/// Frames the address filter dropped (C `UMAC_MDF_ERR_CNT`, L).
pub(super) const UMAC_FILTER_DROPS: usize = 0xE38;
/// Address filter, one bit for each entry in use; 0 is off (N, C).
pub(super) const UMAC_MDF_CTRL: usize = 0xE50;

/// Filter block: control, and two words of enabled filters after it (C `HFB_REG_OFFSET`, L).
pub(super) const HFB_CTRL: usize = 0xFC00;
/// Enabled filters (C, L).
pub(super) const HFB_ENABLE: [usize; 2] = [0xFC04, 0xFC08];

/// Receive and transmit DMA: descriptors, then rings, then common registers (N, C).
pub(super) const RDMA: usize = 0x2000;
/// Transmit DMA (N, C).
pub(super) const TDMA: usize = 0x4000;
/// Bytes of a descriptor: status, address low, address high (N, C).
pub(super) const DESCRIPTOR_BYTES: usize = 12;
/// Words of a descriptor; pointers count words (N, C).
pub(super) const DESCRIPTOR_WORDS: u32 = 3;
/// The ring registers, from the start of the DMA (N, C).
pub(super) const RINGS: usize = 0xC00;
/// Bytes of a ring's registers (N, C).
pub(super) const RING_BYTES: usize = 0x40;
/// The common registers, from the start of the DMA (N, C).
pub(super) const COMMON: usize = 0x1040;

/// One bit for each ring in use (N, C).
pub(super) const DMA_RING_CFG: usize = COMMON;
/// Bit 0 for the DMA, bit n + 1 for ring n (N, C).
pub(super) const DMA_CTRL: usize = COMMON + 0x04;
/// The DMA runs (N, C).
pub(super) const DMA_ENABLE: u32 = 1 << 0;
/// Bit 0: the DMA has stopped (C `DMA_STATUS`, L).
pub(super) const DMA_STATUS: usize = COMMON + 0x08;
/// The DMA has stopped (C, L).
pub(super) const DMA_STOPPED: u32 = 1 << 0;
/// Words of a burst (N, C).
pub(super) const DMA_BURST: usize = COMMON + 0x0C;
/// Value of the burst register (N, C).
pub(super) const BURST_WORDS: u32 = 8;

// Registers of a ring. The device's own pointer and index come first: write for receive, read for transmit (N, C).
/// The device's pointer (N, C).
pub(super) const RING_DEVICE_POINTER: usize = 0x00;
/// The device's index: producer for receive, consumer for transmit; receive counts lost frames in bits 16.. (N, C).
pub(super) const RING_DEVICE_INDEX: usize = 0x08;
/// The driver's index (N, C).
pub(super) const RING_DRIVER_INDEX: usize = 0x0C;
/// Descriptors in bits 16.., bytes of a buffer below (N, C).
pub(super) const RING_SIZE: usize = 0x10;
/// First word (N, C).
pub(super) const RING_START: usize = 0x14;
/// Last word (N, C).
pub(super) const RING_END: usize = 0x1C;
/// Frames before an interrupt (N, C).
pub(super) const RING_DONE_THRESHOLD: usize = 0x24;
/// Receive: XOFF in bits 16.., XON below. Transmit: flow period (N, C).
pub(super) const RING_FLOW: usize = 0x28;
/// The driver's pointer (N, C).
pub(super) const RING_DRIVER_POINTER: usize = 0x2C;
/// Thresholds of XOFF and XON every source uses: 5, and a sixteenth of 256 (N, C).
pub(super) const FLOW_THRESHOLDS: u32 = 5 << 16 | 16;

// Descriptor status (N, C).
/// Length in bits 16..28 (N, C).
pub(super) const STATUS_LENGTH_SHIFT: u32 = 16;
/// Length (N, C).
pub(super) const STATUS_LENGTH_MASK: u32 = 0xFFF;
/// Belongs to the device; set in receive descriptors (N, U).
pub(super) const STATUS_OWN: u32 = 1 << 15;
/// End of packet (N, C).
pub(super) const STATUS_EOP: u32 = 1 << 14;
/// Start of packet (N, C).
pub(super) const STATUS_SOP: u32 = 1 << 13;
/// Transmit: queue tag of all ones (N `QTAG`, U).
pub(super) const STATUS_TX_QUEUE_TAG: u32 = 0x3F << 7;
/// Transmit: the MAC appends the FCS (N, C).
pub(super) const STATUS_TX_CRC: u32 = 1 << 6;
/// Receive: length, alignment, PHY, CRC errors (N, C).
pub(super) const STATUS_RX_DAMAGED: u32 = 0b1_1110;
/// Receive: overrun (N, C).
pub(super) const STATUS_RX_OVERRUN: u32 = 1 << 0;
