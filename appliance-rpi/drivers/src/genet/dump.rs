//! The state of the controller in registers, for a first bring-up on real hardware.

use super::Genet;
use super::phy::{self, LinkWatch};
use super::registers::*;
use crate::{Clock, DmaMemory, Mmio};

impl<M: Mmio, D: DmaMemory, C: Clock> Genet<M, D, C> {
    /// Shows the registers that tell what is wrong when nothing works, by name; reads the PHY too, which takes up to
    /// 40 ms when it does not answer.
    pub fn for_each_register(&mut self, visit: &mut dyn FnMut(&'static str, u32)) {
        const SHOWN: [(&str, usize); 24] = [
            ("SYS_REV_CTRL", SYS_REV_CTRL),
            ("SYS_PORT_CTRL", SYS_PORT_CTRL),
            ("EXT_RGMII_OOB_CTRL", EXT_RGMII_OOB),
            ("INTRL2_0_STAT", 0x200 + INTRL2_STATUS),
            ("INTRL2_1_STAT", 0x240 + INTRL2_STATUS),
            ("RBUF_CTRL", RBUF_CTRL),
            ("RBUF_OVFL_CNT", RBUF_OVERFLOWS),
            ("RBUF_ERR_CNT", RBUF_ERRORS),
            ("TBUF_CTRL", TBUF_CTRL),
            ("UMAC_CMD", UMAC_CMD),
            ("UMAC_MAC0", UMAC_MAC0),
            ("UMAC_MAC1", UMAC_MAC1),
            ("UMAC_MDF_ERR_CNT", UMAC_FILTER_DROPS),
            ("RDMA_CTRL", RDMA + DMA_CTRL),
            ("RDMA_STATUS", RDMA + DMA_STATUS),
            ("RDMA16_PROD", RDMA + RINGS + 16 * RING_BYTES + RING_DEVICE_INDEX),
            ("RDMA16_CONS", RDMA + RINGS + 16 * RING_BYTES + RING_DRIVER_INDEX),
            ("RDMA0_PROD", RDMA + RINGS + RING_DEVICE_INDEX),
            ("RDMA0_CONS", RDMA + RINGS + RING_DRIVER_INDEX),
            ("RDMA_DESC0", RDMA),
            ("TDMA_CTRL", TDMA + DMA_CTRL),
            ("TDMA_STATUS", TDMA + DMA_STATUS),
            ("TDMA16_CONS", TDMA + RINGS + 16 * RING_BYTES + RING_DEVICE_INDEX),
            ("TDMA16_PROD", TDMA + RINGS + 16 * RING_BYTES + RING_DRIVER_INDEX),
        ];
        for (name, register) in SHOWN {
            visit(name, self.registers.read32(register));
        }
        // The watch's own transaction is lost by this; it starts over.
        self.watch = LinkWatch::default();
        let [id_high, id_low] = phy::PHY_ID;
        for (name, register) in
            [("PHY_BMCR", phy::BMCR), ("PHY_BMSR", phy::BMSR), ("PHY_ID1", id_high), ("PHY_ID2", id_low)]
        {
            let value = phy::read(&mut self.registers, &mut self.clock, register);
            // A PHY that does not answer shows a value no register of it can have.
            visit(name, value.map_or(u32::MAX, u32::from));
        }
    }
}
