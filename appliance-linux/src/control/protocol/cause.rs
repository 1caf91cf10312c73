//! Why something did not work out, as it goes over the control socket.

use gateway_core::cause;
use serde::{Deserialize, Serialize};

/// Why something did not work out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cause {
    /// A word to match in scripts.
    pub(crate) code: String,
    /// A sentence.
    pub(crate) text: String,
    /// What to do about it; may be empty.
    #[serde(default)]
    pub(crate) hint: String,
}

impl Cause {
    /// The code of a file that is no configuration.
    pub(crate) const CONFIGURATION: &str = "configuration-wrong";
}

impl From<&cause::Cause> for Cause {
    fn from(cause: &cause::Cause) -> Self {
        Self { code: cause.code.to_owned(), text: cause.text.clone(), hint: cause.hint.clone() }
    }
}
