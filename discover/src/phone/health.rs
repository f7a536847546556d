//! What a phone is good for, by what the bus shows and what adb says, and what to do about it: the whole table.

use hatrack_api::cluster_node::Health;

use super::adb::{State, View};
use super::identify::Mode;

/// What a phone's health follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Situation<'a> {
    /// The bus shows it in a mode in which adb cannot reach it.
    Mode(Mode),
    /// The kernel holds the USB device back.
    NotAuthorized,
    /// adb has a state for it.
    Adb(&'a State),
    /// adb lists it on USB, and the bus does not have it.
    Zombie,
    /// The bus shows its adb interface, and this view does not have it.
    Unlisted(&'a View),
}

impl Situation<'_> {
    /// State, reason and what to do.
    pub(super) fn health(&self) -> Health {
        match self {
            Self::Mode(mode) => of_mode(*mode),
            Self::Adb(state) => of_state(state),
            Self::Unlisted(view) => of_view(view),
            Self::NotAuthorized => Health::unusable(
                "UsbNotAuthorized",
                "the kernel holds it back: write 1 to `authorized` of its USB device",
            ),
            Self::Zombie => Health::unusable(
                "AdbZombie",
                "adb lists it and the bus does not have it: replug it; if it stays, restart the adb server",
            ),
        }
    }
}

fn of_mode(mode: Mode) -> Health {
    const SWITCH_ON: &str = "switch on USB debugging in its developer options";
    const APPLE: &str = "hatrack works with Android phones alone: unplug it, or let it charge";
    let (reason, message) = match mode {
        Mode::Adb | Mode::Mtp | Mode::Ptp | Mode::Tethering | Mode::Midi | Mode::Webcam => ("AdbOff", SWITCH_ON),
        Mode::Accessory => ("AccessoryMode", "an app has switched it to accessory mode: replug it"),
        Mode::Fastboot => ("FastbootMode", "it is in its boot loader: `fastboot reboot`"),
        Mode::Edl => {
            ("EdlMode", "Qualcomm's emergency download mode: hold power for 20 s; if it comes back so, flash it")
        }
        Mode::Preloader => {
            ("PreloaderMode", "MediaTek's preloader: hold power for 20 s; if it comes back so, flash it")
        }
        Mode::Download => {
            ("DownloadMode", "Unisoc's download mode: hold power for 20 s; if it comes back so, flash it")
        }
        Mode::Rockusb => ("RockusbMode", "Rockchip's loader: power it off and on; if it comes back so, flash it"),
        Mode::Odin => ("OdinMode", "Samsung's download mode: hold power and volume down for 10 s"),
        Mode::Apple => ("AppleDevice", APPLE),
        Mode::AppleDfu => ("AppleDfuMode", APPLE),
        Mode::AppleRecovery => ("AppleRecoveryMode", APPLE),
        Mode::AppleRestore => ("AppleRestoreMode", APPLE),
    };
    Health::unusable(reason, message)
}

fn of_state(state: &State) -> Health {
    let (reason, message) = match state {
        State::Device => return Health::ready("AdbDevice"),
        State::Offline => ("AdbOffline", "the connection broke: `adb reconnect offline`, then replug it"),
        State::Unauthorized => {
            ("AdbUnauthorized", "accept the key on its screen, or give the adb server a key that it accepted before")
        }
        State::Authorizing => ("AdbAuthorizing", "its key is being checked: if this stays, look at its screen"),
        State::Connecting => ("AdbConnecting", "the connection is being made: if this stays, replug it"),
        State::NoPermissions(said) => {
            let message = format!("the adb server may not open it: it needs a udev rule for its user ({said})");
            return Health::unusable("AdbNoPermissions", message.chars().take(MAX_MESSAGE).collect::<String>());
        }
        State::Bootloader => ("AdbBootloader", "it is in its boot loader: `fastboot reboot`"),
        State::Recovery => ("AdbRecovery", "it is in its recovery system: `adb reboot`"),
        State::Sideload => ("AdbSideload", "its recovery system waits for a package: `adb reboot`, or give it one"),
        State::Rescue => ("AdbRescue", "it is in rescue mode: choose to reboot on its screen"),
        State::Host => ("AdbHost", "adb sees a machine that is host itself: replug it the other way round"),
        State::Detached => ("AdbDetached", "adb was told to let go of it: `adb attach`, or replug it"),
        State::Unknown => ("AdbUnknown", "adb does not know its state: replug it"),
        State::Other(word) => {
            let message = format!("adb says `{word}`, which hatrack does not know: replug it");
            return Health::unusable("AdbUnknown", message.chars().take(MAX_MESSAGE).collect::<String>());
        }
    };
    Health::unusable(reason, message)
}

/// Health of a phone with an adb interface that the view does not have. Nobody has said that it can be used, so it cannot.
fn of_view(view: &View) -> Health {
    match view {
        View::NotAsked => {
            Health::unusable("AdbNotAsked", "this machine asks no adb server: name one in the agent's configuration")
        }
        View::Pending => Health::unusable("AdbPending", "the adb server has not answered yet"),
        View::Unreachable(why) => {
            let message = format!("the adb server cannot be asked: {why}");
            Health::unusable("AdbUnreachable", message.chars().take(MAX_MESSAGE).collect::<String>())
        }
        View::Listed(_) => Health::unusable(
            "AdbMissing",
            "the adb server does not list it: if this stays, replug it or restart the adb server",
        ),
    }
}

/// Every phone of a box can have the same message; twenty of them are to stay a small part of the object.
const MAX_MESSAGE: usize = 200;

#[cfg(test)]
mod tests {
    use hatrack_api::cluster_node::HealthState;

    use super::*;

    /// What adb says of a phone, with the reason that follows and words of what to do.
    const BY_STATE: [(&str, &str, &str); 15] = [
        ("device", "AdbDevice", ""),
        ("offline", "AdbOffline", "`adb reconnect offline`, then replug it"),
        ("unauthorized", "AdbUnauthorized", "accept the key on its screen"),
        ("authorizing", "AdbAuthorizing", "its key is being checked"),
        ("connecting", "AdbConnecting", "the connection is being made"),
        ("no permissions (user in plugdev group?)", "AdbNoPermissions", "may not open it: it needs a udev rule"),
        ("bootloader", "AdbBootloader", "`fastboot reboot`"),
        ("recovery", "AdbRecovery", "recovery system: `adb reboot`"),
        ("sideload", "AdbSideload", "waits for a package: `adb reboot`, or give it one"),
        ("rescue", "AdbRescue", "rescue mode: choose to reboot on its screen"),
        ("host", "AdbHost", "replug it the other way round"),
        ("detached", "AdbDetached", "`adb attach`, or replug it"),
        ("unknown", "AdbUnknown", "adb does not know its state: replug it"),
        ("levitating", "AdbUnknown", "adb says `levitating`, which hatrack does not know"),
        ("", "AdbUnknown", "replug it"),
    ];

    /// The same for the modes that the bus shows.
    const BY_MODE: [(Mode, &str, &str); Mode::ALL.len()] = [
        (Mode::Adb, "AdbOff", "switch on USB debugging"),
        (Mode::Mtp, "AdbOff", "switch on USB debugging"),
        (Mode::Ptp, "AdbOff", "switch on USB debugging"),
        (Mode::Tethering, "AdbOff", "switch on USB debugging"),
        (Mode::Midi, "AdbOff", "switch on USB debugging"),
        (Mode::Webcam, "AdbOff", "switch on USB debugging"),
        (Mode::Accessory, "AccessoryMode", "an app has switched it to accessory mode: replug it"),
        (Mode::Fastboot, "FastbootMode", "boot loader: `fastboot reboot`"),
        (Mode::Edl, "EdlMode", "Qualcomm's emergency download mode: hold power"),
        (Mode::Preloader, "PreloaderMode", "MediaTek's preloader: hold power"),
        (Mode::Download, "DownloadMode", "Unisoc's download mode: hold power"),
        (Mode::Rockusb, "RockusbMode", "Rockchip's loader: power it off and on"),
        (Mode::Odin, "OdinMode", "Samsung's download mode: hold power and volume down"),
        (Mode::Apple, "AppleDevice", "Android phones alone"),
        (Mode::AppleDfu, "AppleDfuMode", "Android phones alone"),
        (Mode::AppleRecovery, "AppleRecoveryMode", "Android phones alone"),
        (Mode::AppleRestore, "AppleRestoreMode", "Android phones alone"),
    ];

    fn assert_says(health: &Health, reason: &str, words: &str, of: &dyn std::fmt::Debug) {
        assert_eq!(health.reason, reason, "{of:?}");
        assert!(health.message.contains(words), "{of:?}: {}", health.message);
        let is_ready = reason == "AdbDevice";
        assert_eq!((health.state == HealthState::Ready, health.message.is_empty()), (is_ready, is_ready), "{of:?}");
    }

    #[test]
    fn each_state_has_its_reason_and_what_to_do() {
        for (word, reason, words) in BY_STATE {
            assert_says(&Situation::Adb(&State::from_text(word)).health(), reason, words, &word);
        }
        assert_eq!(BY_MODE.map(|(mode, ..)| mode), Mode::ALL, "each mode has a row");
        for (mode, reason, words) in BY_MODE {
            assert_says(&Situation::Mode(mode).health(), reason, words, &mode);
        }
        let unreachable = View::Unreachable("connection refused".to_owned());
        for (view, reason, words) in [
            (&View::NotAsked, "AdbNotAsked", "name one in the agent's configuration"),
            (&View::Pending, "AdbPending", "has not answered yet"),
            (&unreachable, "AdbUnreachable", "cannot be asked: connection refused"),
            (&View::Listed(vec![]), "AdbMissing", "the adb server does not list it"),
        ] {
            assert_says(&Situation::Unlisted(view).health(), reason, words, view);
        }
        assert_says(&Situation::NotAuthorized.health(), "UsbNotAuthorized", "write 1 to `authorized`", &"held back");
        assert_says(&Situation::Zombie.health(), "AdbZombie", "the bus does not have it: replug it", &"a zombie");
    }

    #[test]
    fn a_message_that_others_wrote_is_cut() {
        let long = "\u{1F4A5}".repeat(600);
        let view = View::Unreachable(long.clone());
        for situation in [
            Situation::Adb(&State::NoPermissions(long.clone())),
            Situation::Adb(&State::Other(long)),
            Situation::Unlisted(&view),
        ] {
            assert_eq!(situation.health().message.chars().count(), MAX_MESSAGE, "{situation:?}");
        }
    }
}
