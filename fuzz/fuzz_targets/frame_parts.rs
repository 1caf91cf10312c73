//! Ethernet frames with tags, sessions and packets in them.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(frame_parts);
