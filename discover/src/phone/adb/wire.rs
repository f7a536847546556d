//! Frames of the adb server's protocol (AOSP `packages/modules/adb/OVERVIEW.TXT`): a request is four hex digits of length
//! and a text; an answer is `OKAY` or `FAIL`, and texts with their length before them.

use std::io;

/// Why the adb server cannot be understood, or does not want to be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It cannot be reached, or the connection broke.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// It closed the connection in the middle of an answer, or died.
    #[error("the connection ended before the answer did")]
    Cut,
    /// Nothing, or only a part of an answer, came in time.
    #[error("no answer within {0:?}")]
    Late(std::time::Duration),
    /// Something else listens there.
    #[error("what listens there is no adb server, it says {0:?}")]
    NotAdb(String),
    /// `FAIL` and its text.
    #[error("the adb server refused: {0}")]
    Refused(String),
}

impl WireError {
    /// The error and its cause in one line, for what is shown later.
    pub fn sentence(&self) -> String {
        match self {
            Self::Io(source) => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

/// Digits of a length, and bytes of a status.
const HEADER: usize = 4;

/// A request for a service.
pub fn request(service: &str) -> Vec<u8> {
    format!("{:04x}{service}", service.len()).into_bytes()
}

/// Takes a status from the front of what has come; `None` while it is not whole.
pub fn take_status(input: &mut Vec<u8>) -> Result<Option<()>, WireError> {
    let Some(status) = input.get(..HEADER) else { return Ok(None) };
    match status {
        b"OKAY" => {
            input.drain(..HEADER);
            Ok(Some(()))
        }
        b"FAIL" => {
            let mut rest = input.split_off(HEADER);
            let reason = take_block(&mut rest);
            input.append(&mut rest);
            reason?.map_or(Ok(None), |reason| Err(WireError::Refused(reason)))
        }
        _ => Err(not_adb(input)),
    }
}

/// Takes a text with its length from the front of what has come; `None` while it is not whole.
/// Four hex digits bound it to 65535 bytes.
pub fn take_block(input: &mut Vec<u8>) -> Result<Option<String>, WireError> {
    let Some(digits) = input.get(..HEADER) else { return Ok(None) };
    let length = digits.iter().try_fold(0, |length, digit| Some(length * 16 + char::from(*digit).to_digit(16)?));
    let end = HEADER + length.ok_or_else(|| not_adb(input))? as usize;
    let Some(text) = input.get(HEADER..end) else { return Ok(None) };
    let text = String::from_utf8_lossy(text).into_owned();
    input.drain(..end);
    Ok(Some(text))
}

fn not_adb(input: &[u8]) -> WireError {
    const SHOWN: usize = 16;
    WireError::NotAdb(String::from_utf8_lossy(&input[..input.len().min(SHOWN)]).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_have_their_length_before_them() {
        assert_eq!(request("host:version"), b"000chost:version");
    }

    #[test]
    fn a_block_is_taken_when_it_is_whole() {
        let mut input = b"0005he".to_vec();
        assert_eq!(take_block(&mut input).unwrap(), None);
        input.extend(b"llo0000");
        assert_eq!(take_block(&mut input).unwrap().as_deref(), Some("hello"));
        assert_eq!(take_block(&mut input).unwrap().as_deref(), Some(""));
        assert_eq!(take_block(&mut input).unwrap(), None);
    }

    #[test]
    fn a_refusal_has_its_reason() {
        let mut input = b"FAIL0014unknown host".to_vec();
        assert!(matches!(take_status(&mut input), Ok(None)), "half a reason is no reason yet");
        assert_eq!(input, b"FAIL0014unknown host");
        input.extend(b" service");
        assert!(matches!(take_status(&mut input), Err(WireError::Refused(why)) if why == "unknown host service"));
    }

    #[test]
    fn what_is_no_adb_server_is_said_to_be_none() {
        for text in ["HTTP/1.1 400 Bad Request", "SSH-2.0", "okay", "\0\0\0\0"] {
            assert!(matches!(take_status(&mut text.into()), Err(WireError::NotAdb(_))), "{text}");
            assert!(matches!(take_block(&mut text.into()), Err(WireError::NotAdb(_))), "{text}");
        }
        assert!(matches!(take_block(&mut b"+001a".to_vec()), Err(WireError::NotAdb(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_panic(bytes: Vec<u8>) {
            _ = take_status(&mut bytes.clone());
            _ = take_block(&mut bytes.clone());
        }

        #[test]
        fn texts_come_back_however_they_are_cut(texts in proptest::collection::vec("\\PC{0,40}", 0..5), cut in 1usize..9) {
            let sent: Vec<u8> = texts.iter().flat_map(|text| request(text)).collect();
            let (mut input, mut taken) = (Vec::new(), Vec::new());
            for piece in sent.chunks(cut) {
                input.extend(piece);
                while let Some(text) = take_block(&mut input).unwrap() {
                    taken.push(text);
                }
            }
            prop_assert_eq!(taken, texts);
        }
    }
}
