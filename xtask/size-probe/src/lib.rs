//! A node with a pre-shared key on a Cortex-M4: what it needs of memory, and the machine around it.
//!
//! `psk_node` is one node as firmware would link it, for its code. `two_nodes` has two of them talk in the emulator, for
//! their stack.
#![no_std]

pub mod machine;
pub mod node;
pub mod tunnel;
