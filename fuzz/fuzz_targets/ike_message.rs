//! IKE messages in clear, and a responder that gets them.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(ike_message);
