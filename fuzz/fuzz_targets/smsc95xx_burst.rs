//! Bursts of received frames of an SMSC 95xx.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(smsc95xx_burst);
