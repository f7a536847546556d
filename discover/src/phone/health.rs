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

    fn all() -> Vec<Health> {
        let states =
            "device offline unauthorized authorizing connecting bootloader recovery sideload rescue host detached";
        let states = states.split(' ').map(State::from_text).chain([
            State::NoPermissions("x".repeat(600)),
            State::Unknown,
            State::Other("\u{1F4A5}".repeat(600)),
        ]);
        let modes = Mode::ALL.into_iter().map(|mode| Situation::Mode(mode).health());
        let views = [View::NotAsked, View::Pending, View::Listed(vec![]), View::Unreachable("y".repeat(600))];
        let mut all: Vec<_> = states.map(|state| Situation::Adb(&state).health()).chain(modes).collect();
        all.extend(views.iter().map(|view| Situation::Unlisted(view).health()));
        all.extend([Situation::NotAuthorized.health(), Situation::Zombie.health()]);
        all
    }

    #[test]
    fn one_situation_alone_is_ready_and_every_other_says_what_to_do() {
        for health in all() {
            assert_eq!(health.state == HealthState::Ready, health.reason == "AdbDevice", "{}", health.reason);
            assert_eq!(health.message.is_empty(), health.reason == "AdbDevice", "{}", health.reason);
            assert!(health.message.chars().count() <= MAX_MESSAGE, "{}", health.reason);
        }
    }
}
