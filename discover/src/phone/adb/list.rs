//! The lists of `host:devices` and `host:devices-l` (AOSP `transport.cpp`, `append_transport`).

use super::{State, Transport};

/// What adb writes for a phone without a serial number.
const NO_SERIAL: &str = "(no serial number)";

/// Reads a list, long or short; lines that are neither are left out.
pub fn parse(text: &str) -> Vec<Transport> {
    text.lines().filter_map(|line| if line.contains('\t') { short(line) } else { long(line) }).collect()
}

/// `serial TAB state`.
fn short(line: &str) -> Option<Transport> {
    let (serial, state) = line.rsplit_once('\t')?;
    Some(Transport { serial: of_serial(serial), state: State::from_text(state.trim()), ..Transport::default() })
}

/// `serial state [devpath] [product:… model:… device:…] transport_id:…`, read from the right: adb puts the number last so
/// that it can be found whatever a phone calls itself, and the state may have spaces.
fn long(line: &str) -> Option<Transport> {
    let (rest, id) = take(line.trim(), " transport_id:");
    let (rest, _) = take(rest, " device:");
    let (rest, model) = take(rest, " model:");
    let (rest, product) = take(rest, " product:");
    let (rest, devpath) = match rest.rsplit_once(' ').and_then(|(rest, word)| Some((rest, devpath(word)?))) {
        Some((rest, path)) => (rest.trim_end(), Some(path)),
        None => (rest, None),
    };
    let (serial, state) = match rest.find(" no permissions") {
        Some(at) => rest.split_at(at),
        None => rest.rsplit_once(' ')?,
    };
    Some(Transport {
        serial: of_serial(serial.trim()),
        state: State::from_text(state.trim()),
        devpath: devpath.map(str::to_owned),
        product: product.map(str::to_owned),
        model: model.map(str::to_owned),
        id: id.and_then(|id| id.parse().ok()),
        told: None,
    })
}

/// Cuts off what follows the last `key`.
fn take<'a>(text: &'a str, key: &str) -> (&'a str, Option<&'a str>) {
    match text.rsplit_once(key) {
        Some((rest, value)) => (rest.trim_end(), Some(value.trim()).filter(|value| !value.is_empty())),
        None => (text, None),
    }
}

/// The kernel name in `usb:3-1.2`; adb's libusb backend leaves the `usb:` out.
fn devpath(word: &str) -> Option<&str> {
    let path = word.strip_prefix("usb:").unwrap_or(word);
    let (bus, ports) = path.split_once('-')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (number(bus) && ports.split('.').all(number)).then_some(path)
}

fn of_serial(text: &str) -> String {
    if text == NO_SERIAL { String::new() } else { text.to_owned() }
}

impl State {
    /// The state by adb's word for it.
    pub fn from_text(text: &str) -> Self {
        match text {
            "device" => Self::Device,
            "offline" => Self::Offline,
            "unauthorized" => Self::Unauthorized,
            "authorizing" => Self::Authorizing,
            "connecting" => Self::Connecting,
            "bootloader" => Self::Bootloader,
            "recovery" => Self::Recovery,
            "sideload" => Self::Sideload,
            "rescue" => Self::Rescue,
            "host" => Self::Host,
            "detached" => Self::Detached,
            "unknown" => Self::Unknown,
            other => match other.strip_prefix("no permissions") {
                Some(why) => Self::NoPermissions(why.trim().to_owned()),
                None => Self::Other(other.to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Transport {
        let list = parse(line);
        assert_eq!(list.len(), 1, "{line}");
        list.into_iter().next().unwrap()
    }

    #[test]
    fn a_line_of_a_phone_on_usb() {
        let line = "R58M123ABC             device usb:3-1.2 product:b2qxxx model:SM_F711B device:b2q transport_id:7";
        let expected = Transport {
            serial: "R58M123ABC".to_owned(),
            state: State::Device,
            devpath: Some("3-1.2".to_owned()),
            product: Some("b2qxxx".to_owned()),
            model: Some("SM_F711B".to_owned()),
            id: Some(7),
            told: None,
        };
        assert_eq!(one(line), expected);
        assert_eq!(one(&line.replace("usb:", "")), expected, "the libusb backend");
    }

    #[test]
    fn every_other_line_that_adb_writes() {
        let cases = [
            ("ABC\tunauthorized", "ABC", State::Unauthorized, None, None),
            (
                "ABC                    unauthorized usb:1-2 transport_id:3",
                "ABC",
                State::Unauthorized,
                Some("1-2"),
                Some(3),
            ),
            ("192.168.1.7:5555       offline transport_id:12", "192.168.1.7:5555", State::Offline, None, Some(12)),
            ("(no serial number)     device usb:1-4 transport_id:2", "", State::Device, Some("1-4"), Some(2)),
            ("(no serial number)\toffline", "", State::Offline, None, None),
            (
                "SER WITH SPACES        recovery usb:1-4 transport_id:2",
                "SER WITH SPACES",
                State::Recovery,
                Some("1-4"),
                Some(2),
            ),
            (
                "ABC                    wibble usb:1-4 transport_id:2",
                "ABC",
                State::Other("wibble".to_owned()),
                Some("1-4"),
                Some(2),
            ),
            (
                "a-serial-longer-than-22-characters device usb:1-4 transport_id:2",
                "a-serial-longer-than-22-characters",
                State::Device,
                Some("1-4"),
                Some(2),
            ),
            (
                "ABC                    device usb:1-4 product:a b model:c device:transport_id:1 transport_id:5",
                "ABC",
                State::Device,
                Some("1-4"),
                Some(5),
            ),
        ];
        for (line, serial, state, devpath, id) in cases {
            let found = one(line);
            assert_eq!((found.serial.as_str(), found.state), (serial, state), "{line}");
            assert_eq!((found.devpath.as_deref(), found.id), (devpath, id), "{line}");
        }
    }

    #[test]
    fn no_permissions_has_spaces_and_an_address() {
        let why =
            "(user in plugdev group; are your udev rules wrong?); see [http://developer.android.com/tools/device.html]";
        let found = one(&format!("ABC                    no permissions {why} usb:1-2 transport_id:3"));
        assert_eq!((found.serial.as_str(), found.devpath.as_deref()), ("ABC", Some("1-2")));
        assert_eq!(found.state, State::NoPermissions(why.to_owned()));
        assert_eq!(one(&format!("ABC\tno permissions {why}")).state, State::NoPermissions(why.to_owned()));
    }

    #[test]
    fn an_empty_list_is_empty() {
        assert_eq!(parse(""), []);
        assert_eq!(parse("\n"), []);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(\\PC|[\t\n :.-]|usb:|transport_id:|no permissions){0,80}") {
            _ = parse(&text);
        }

        #[test]
        fn what_adb_writes_is_what_is_read(serial in "[A-Za-z0-9]{1,30}", ports in "[1-9]-[1-9](\\.[1-9]){0,4}", id: u64) {
            let found = one(&format!("{serial:<22} offline usb:{ports} transport_id:{id}"));
            prop_assert_eq!(found.serial, serial);
            prop_assert_eq!(found.devpath, Some(ports));
            prop_assert_eq!(found.id, Some(id));
        }
    }
}
