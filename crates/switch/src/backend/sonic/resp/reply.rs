//! Redis' protocol, version 2, as bytes: commands out, replies in.

/// Replies are lists of lists of texts; deeper ones are no replies to what is asked here.
const DEPTH: usize = 4;
/// More than this is no text or list of SONiC's.
const LENGTH: usize = 64 << 20;

/// What was sent is none of Redis' replies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoReply(&'static str);

/// What Redis says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// One word, like `OK`.
    Status(String),
    /// It does not want to.
    Error(String),
    /// A number.
    Integer(i64),
    /// A text. What is no UTF-8 is not SONiC's; it comes with signs in its place.
    Text(String),
    /// Replies in a row.
    List(Vec<Self>),
    /// There is none: no such field, or a transaction that was not done.
    Nil,
}

impl Reply {
    /// The text, if it is one.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) | Self::Status(text) => Some(text),
            _ => None,
        }
    }

    /// The list; empty when it is none.
    pub fn list(self) -> Vec<Self> {
        match self {
            Self::List(list) => list,
            _ => Vec::new(),
        }
    }
}

/// A command and its arguments.
pub type Command = Vec<String>;

/// A command.
pub fn command<const N: usize>(words: [&str; N]) -> Command {
    words.map(str::to_owned).into()
}

/// The bytes of a command.
pub fn encode(command: &[String]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

/// The first reply in `bytes` and how long it is; nothing as long as it is not complete.
///
/// # Errors
/// It is none of Redis'.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, NoReply> {
    let mut reader = Reader { bytes, at: 0 };
    Ok(reader.reply(0)?.map(|reply| (reply, reader.at)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn reply(&mut self, depth: usize) -> Result<Option<Reply>, NoReply> {
        if depth > DEPTH {
            return Err(NoReply("a reply of Redis is nested too deeply"));
        }
        let Some(line) = self.line() else { return Ok(None) };
        let empty = NoReply("a line of Redis is empty");
        let (kind, rest) = line.split_at_checked(1).ok_or(empty)?;
        Ok(Some(match kind {
            "+" => Reply::Status(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => {
                let number = rest.parse().map_err(|_| NoReply("a number of Redis is none"))?;
                Reply::Integer(number)
            }
            "$" => match length(rest)? {
                None => Reply::Nil,
                Some(length) => match self.take(length + 2) {
                    None => return Ok(None),
                    Some(text) => {
                        let end = NoReply("a text of Redis does not end");
                        let text = text.strip_suffix(b"\r\n").ok_or(end)?;
                        Reply::Text(String::from_utf8_lossy(text).into_owned())
                    }
                },
            },
            "*" => match length(rest)? {
                None => Reply::Nil,
                Some(length) => {
                    let mut list = Vec::new();
                    for _ in 0..length {
                        let Some(reply) = self.reply(depth + 1)? else { return Ok(None) };
                        list.push(reply);
                    }
                    Reply::List(list)
                }
            },
            _ => return Err(NoReply("Redis answers in another protocol")),
        }))
    }

    fn line(&mut self) -> Option<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 2;
        Some(line)
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at + length)?;
        self.at += length;
        Some(taken)
    }
}

fn length(text: &str) -> Result<Option<usize>, NoReply> {
    if text == "-1" {
        return Ok(None);
    }
    let length = text.parse().map_err(|_| NoReply("a length of Redis is none"))?;
    if length > LENGTH {
        return Err(NoReply("a reply of Redis is too long"));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Option<Reply> {
        parse(text.as_bytes()).unwrap().map(|(reply, used)| {
            assert_eq!(used, text.len());
            reply
        })
    }

    #[test]
    fn replies() {
        assert_eq!(one("+OK\r\n"), Some(Reply::Status("OK".into())));
        assert_eq!(one(":-3\r\n"), Some(Reply::Integer(-3)));
        assert_eq!(one("$-1\r\n"), Some(Reply::Nil));
        assert_eq!(one("*-1\r\n"), Some(Reply::Nil));
        assert_eq!(one("$4\r\na\r\nb\r\n"), Some(Reply::Text("a\r\nb".into())));
        let list = vec![Reply::Text("a".into()), Reply::List(vec![])];
        assert_eq!(one("*2\r\n$1\r\na\r\n*0\r\n"), Some(Reply::List(list)));
        assert_eq!(one("-ERR no\r\n"), Some(Reply::Error("ERR no".into())));
        for wrong in [
            "!x\r\n",
            "\r\n",
            ":x\r\n",
            "$-2\r\n",
            "$1\r\nabc",
            "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_command() {
        assert_eq!(encode(&command(["GET", "a b"])), b"*2\r\n$3\r\nGET\r\n$3\r\na b\r\n");
    }

    proptest! {
        #[test]
        fn a_part_is_waited_for(words in prop::collection::vec(".{0,6}", 0..4), cut in 0..100_usize) {
            let bytes = encode(&words);
            let all = Reply::List(words.into_iter().map(Reply::Text).collect());
            prop_assert_eq!(parse(&bytes).unwrap(), Some((all, bytes.len())));
            prop_assert!(parse(&bytes[..cut.min(bytes.len() - 1)]).unwrap().is_none());
        }

        #[test]
        fn anything_is_survived(bytes in prop::collection::vec(prop::sample::select(b"+-:$*0129a\r\n".to_vec()), 0..60)) {
            let _ = parse(&bytes);
        }
    }
}
