//! HTTP/1.1 (RFC 9112) as far as a status page needs it: one request a connection, answered and closed.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Octets of request head that are read before it is refused.
pub const HEAD_MAX: usize = 4096;
const HEADERS_MAX: usize = 48;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `GET /`
    Page,
    /// `GET /status.json`
    Json,
    /// `POST /panic`: a deliberate panic, to see what follows one.
    Panic,
}

/// Why a request is refused, with its status line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP.
    BadRequest,
    /// No such page.
    NotFound,
    /// The page exists, but not for this method.
    MethodNotAllowed,
    /// More than [`HEAD_MAX`] octets or too many fields.
    HeadTooLarge,
    /// Switched off in the configuration.
    Forbidden,
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Forbidden => "403 Forbidden",
        }
    }
}

/// Reads a request head; `None` while it is not complete.
///
/// # Errors
/// [`Refusal`]; never `Forbidden`.
pub fn parse(octets: &[u8]) -> Result<Option<Request>, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(octets) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if octets.len() >= HEAD_MAX => return Err(Refusal::HeadTooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(_) => return Err(Refusal::BadRequest),
    }
    let path = head.path.ok_or(Refusal::BadRequest)?;
    let path = path.split('?').next().unwrap_or(path);
    let (method, request) = match path {
        "/" => ("GET", Request::Page),
        "/status.json" => ("GET", Request::Json),
        "/panic" => ("POST", Request::Panic),
        _ => return Err(Refusal::NotFound),
    };
    if head.method == Some(method) { Ok(Some(request)) } else { Err(Refusal::MethodNotAllowed) }
}

/// An answer, head and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response(Vec<u8>);

impl Response {
    /// `200 OK` with a page.
    pub fn html(body: &str) -> Self {
        Self::new("200 OK", "text/html; charset=utf-8", body)
    }

    /// `200 OK` with JSON.
    pub fn json(body: &str) -> Self {
        Self::new("200 OK", "application/json", body)
    }

    /// A refusal in words.
    pub fn refusal(refusal: Refusal) -> Self {
        Self::new(refusal.status(), "text/plain", &format!("{}\n", refusal.status()))
    }

    fn new(status: &str, kind: &str, body: &str) -> Self {
        let mut octets = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        octets.extend_from_slice(body.as_bytes());
        Self(octets)
    }

    /// The octets to send.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// Text made harmless inside HTML.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_when_its_head_is_complete() {
        let whole = b"GET /status.json?x=1 HTTP/1.1\r\nHost: pi\r\n\r\n";
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), Ok(None), "{len} octets");
        }
        assert_eq!(parse(whole), Ok(Some(Request::Json)));
        assert_eq!(parse(b"GET / HTTP/1.0\r\n\r\n"), Ok(Some(Request::Page)));
        assert_eq!(parse(b"POST /panic HTTP/1.1\r\n\r\n"), Ok(Some(Request::Panic)));
    }

    #[test]
    fn what_is_not_served_is_refused_by_its_reason() {
        assert_eq!(parse(b"GET /etc/passwd HTTP/1.1\r\n\r\n"), Err(Refusal::NotFound));
        assert_eq!(parse(b"GET /panic HTTP/1.1\r\n\r\n"), Err(Refusal::MethodNotAllowed));
        assert_eq!(parse(b"POST / HTTP/1.1\r\n\r\n"), Err(Refusal::MethodNotAllowed));
        assert_eq!(parse(b"\x16\x03\x01\x02\x00"), Err(Refusal::BadRequest));
        let many = [b"GET / HTTP/1.1\r\n".as_slice(), &b"a: b\r\n".repeat(60), b"\r\n"].concat();
        assert_eq!(parse(&many), Err(Refusal::HeadTooLarge));
        let endless = [b"GET /".as_slice(), &b"a".repeat(HEAD_MAX)].concat();
        assert_eq!(parse(&endless), Err(Refusal::HeadTooLarge));
    }

    #[test]
    fn an_answer_tells_its_length() {
        let answer = String::from_utf8(Response::json("{}").0).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(answer.contains("\r\nContent-Length: 2\r\n"));
        assert!(answer.ends_with("\r\n\r\n{}"));
    }

    #[test]
    fn markup_in_text_stays_text() {
        assert_eq!(escape("<b a=\"1\">&'"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
    }
}
