//! What may be in which message, a row for each (RFC 7296 §1.2–§1.5, appendix C).

use crate::registry::{ExchangeType, PayloadType};
use crate::wire::header::Header;

/// How often a payload may stand in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Exactly once.
    Required,
    /// Once or not at all.
    Optional,
    /// Any number of times.
    Repeated,
}

/// Which half of an exchange a message is.
///
/// ```
/// use ike_core::registry::ExchangeType;
/// use ike_core::rules::Direction;
/// use ike_core::wire::header::Header;
/// let header = Header { response: true, ..Header::new(1, 2, ExchangeType::IKE_AUTH, 1) };
/// assert_eq!(Direction::of(&header), Direction::Response);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It asks.
    Request,
    /// It answers.
    Response,
}

impl Direction {
    /// What the header says.
    pub const fn of(header: &Header) -> Self {
        if header.response { Self::Response } else { Self::Request }
    }
}

/// How far an IKE SA is that a message is for. The same exchange may carry other payloads at another stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There are no keys yet: messages are in clear.
    Clear,
    /// There are keys, and nobody has proved who it is.
    Keyed,
    /// IKE_AUTH goes on for more than one request and its answer (RFC 7296 §2.16).
    Continued,
    /// Both sides are authenticated.
    Established,
}

/// What may be in one kind of message. A payload that is not listed is forbidden.
///
/// ```
/// use ike_core::registry::ExchangeType;
/// use ike_core::rules::{Direction, Presence, Rule, Stage};
/// assert!(Rule::find(ExchangeType::IKE_AUTH, Direction::Request, Stage::Keyed).is_some());
/// assert!(Rule::find(ExchangeType::IKE_AUTH, Direction::Request, Stage::Clear).is_none()); // in clear: not looked at
/// ```
#[derive(Debug)]
pub struct Rule {
    exchange: ExchangeType,
    direction: Direction,
    stage: Stage,
    pub(super) payloads: &'static [(PayloadType, Presence)],
    /// Payloads that stand there all or none.
    pub(super) together: &'static [PayloadType],
}

use Presence::{Optional, Repeated, Required};

pub(super) const RULES: &[Rule] = &[
    Rule {
        exchange: ExchangeType::IKE_SA_INIT,
        direction: Direction::Request,
        stage: Stage::Clear,
        payloads: &[
            (PayloadType::SA, Required),
            (PayloadType::KE, Required),
            (PayloadType::NONCE, Required),
            (PayloadType::NOTIFY, Repeated),
            (PayloadType::VENDOR, Repeated),
        ],
        together: &[],
    },
    Rule {
        exchange: ExchangeType::IKE_SA_INIT,
        direction: Direction::Response,
        stage: Stage::Clear,
        payloads: &[
            (PayloadType::SA, Required),
            (PayloadType::KE, Required),
            (PayloadType::NONCE, Required),
            (PayloadType::CERTREQ, Repeated),
            (PayloadType::NOTIFY, Repeated),
            (PayloadType::VENDOR, Repeated),
        ],
        together: &[],
    },
    Rule {
        exchange: ExchangeType::IKE_AUTH,
        direction: Direction::Request,
        stage: Stage::Keyed,
        payloads: &[
            (PayloadType::ID_I, Required),
            (PayloadType::ID_R, Optional),
            (PayloadType::CERT, Repeated),
            (PayloadType::CERTREQ, Repeated),
            // Absent when the initiator asks for EAP (§2.16); then the handler refuses by name.
            (PayloadType::AUTH, Optional),
            (PayloadType::CP, Optional),
            (PayloadType::SA, Required),
            (PayloadType::TS_I, Required),
            (PayloadType::TS_R, Required),
            (PayloadType::NOTIFY, Repeated),
            (PayloadType::VENDOR, Repeated),
        ],
        together: &[],
    },
    Rule {
        exchange: ExchangeType::IKE_AUTH,
        direction: Direction::Response,
        stage: Stage::Keyed,
        payloads: &[
            (PayloadType::ID_R, Required),
            (PayloadType::CERT, Repeated),
            (PayloadType::AUTH, Required),
            (PayloadType::EAP, Optional),
            (PayloadType::CP, Optional),
            // Whoever proves who it is has an IKE SA with us, whatever became of the child (§1.2).
            (PayloadType::SA, Optional),
            (PayloadType::TS_I, Optional),
            (PayloadType::TS_R, Optional),
            (PayloadType::NOTIFY, Repeated),
            (PayloadType::VENDOR, Repeated),
        ],
        together: &[],
    },
    Rule {
        exchange: ExchangeType::IKE_AUTH,
        direction: Direction::Request,
        stage: Stage::Continued,
        payloads: &[
            // One of the two (§2.16).
            (PayloadType::EAP, Optional),
            (PayloadType::AUTH, Optional),
            (PayloadType::NOTIFY, Repeated),
            (PayloadType::VENDOR, Repeated),
        ],
        together: &[],
    },
    Rule {
        exchange: ExchangeType::IKE_AUTH,
        direction: Direction::Response,
        stage: Stage::Continued,
        payloads: &[
            (PayloadType::EAP, Optional),
            (PayloadType::AUTH, Optional),
            (PayloadType::CP, Optional),
            (PayloadType::SA, Optional),
            (PayloadType::TS_I, Optional),
            (PayloadType::TS_R, Optional),
            (PayloadType::NOTIFY, Repeated),
            (PayloadType::VENDOR, Repeated),
        ],
        together: &[],
    },
    Rule {
        exchange: ExchangeType::CREATE_CHILD_SA,
        direction: Direction::Request,
        stage: Stage::Established,
        payloads: CREATE_CHILD_SA,
        together: &[PayloadType::TS_I, PayloadType::TS_R],
    },
    Rule {
        exchange: ExchangeType::CREATE_CHILD_SA,
        direction: Direction::Response,
        stage: Stage::Established,
        payloads: CREATE_CHILD_SA,
        together: &[PayloadType::TS_I, PayloadType::TS_R],
    },
    Rule {
        exchange: ExchangeType::INFORMATIONAL,
        direction: Direction::Request,
        stage: Stage::Established,
        payloads: INFORMATIONAL,
        together: &[],
    },
    Rule {
        exchange: ExchangeType::INFORMATIONAL,
        direction: Direction::Response,
        stage: Stage::Established,
        payloads: INFORMATIONAL,
        together: &[],
    },
];

const CREATE_CHILD_SA: &[(PayloadType, Presence)] = &[
    (PayloadType::SA, Required),
    (PayloadType::NONCE, Required),
    (PayloadType::KE, Optional),
    // Absent when the IKE SA is rekeyed (§1.3.2).
    (PayloadType::TS_I, Optional),
    (PayloadType::TS_R, Optional),
    (PayloadType::CP, Optional),
    (PayloadType::NOTIFY, Repeated),
    (PayloadType::VENDOR, Repeated),
];

const INFORMATIONAL: &[(PayloadType, Presence)] = &[
    (PayloadType::NOTIFY, Repeated),
    (PayloadType::DELETE, Repeated),
    (PayloadType::CP, Optional),
    (PayloadType::VENDOR, Repeated),
];

impl Rule {
    /// The rule for a message; `None` when no such message is ever processed: the exchange is unknown, or has no place at
    /// this stage.
    pub fn find(exchange: ExchangeType, direction: Direction, stage: Stage) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.exchange == exchange && rule.direction == direction && rule.stage == stage)
    }

    /// Whether it is one for answers.
    pub(super) fn is_response(&self) -> bool {
        self.direction == Direction::Response
    }

    pub(super) fn presence(&self, kind: PayloadType) -> Option<Presence> {
        self.payloads.iter().find(|(listed, _)| *listed == kind).map(|(_, presence)| *presence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_clear_but_ike_sa_init_and_only_ike_auth_at_two_stages() {
        for exchange in (0..=u8::MAX).map(ExchangeType) {
            for direction in [Direction::Request, Direction::Response] {
                let listed = |stage| {
                    RULES
                        .iter()
                        .filter(move |rule| (rule.exchange, rule.direction, rule.stage) == (exchange, direction, stage))
                };
                let at = |stage| {
                    assert_eq!(
                        Rule::find(exchange, direction, stage).is_some(),
                        listed(stage).count() == 1,
                        "{exchange}"
                    );
                    listed(stage).count()
                };
                let expected = match exchange {
                    ExchangeType::IKE_SA_INIT => [1, 0, 0, 0],
                    ExchangeType::IKE_AUTH => [0, 1, 1, 0],
                    ExchangeType::CREATE_CHILD_SA | ExchangeType::INFORMATIONAL => [0, 0, 0, 1],
                    _ => [0; 4],
                };
                let stages = [Stage::Clear, Stage::Keyed, Stage::Continued, Stage::Established];
                assert_eq!(stages.map(at), expected, "{exchange}");
            }
        }
    }
}
