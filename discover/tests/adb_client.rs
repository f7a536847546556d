//! The adb client against servers that do as they are told, and against a real one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use hatrack_discover::phone::adb::{State, Timing, Transport, View, client};
use hatrack_fake_adb::adbd::Adbd;
use hatrack_fake_adb::phone::Phone;
use hatrack_fake_adb::real::{RealServer, answer};
use hatrack_fake_adb::server::{Manner, Server};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than anything here takes; a test that meets it has failed.
const LONG: Duration = Duration::from_secs(30);

fn quick() -> Timing {
    let millis = Duration::from_millis;
    Timing {
        deadline: millis(300),
        phone_deadline: millis(300),
        check: LONG,
        retry: millis(10),
        retry_at_most: millis(50),
    }
}

/// Follows a server for the length of a test.
struct Following {
    views: watch::Receiver<View>,
}

impl Following {
    fn start(address: SocketAddr, timing: Timing) -> Self {
        let (sender, views) = watch::channel(View::NotAsked);
        tokio::spawn(client::watch(address, timing, sender));
        Self { views }
    }

    async fn until(&mut self, what: &str, is_it: impl Fn(&View) -> bool) -> View {
        let found = timeout(LONG, self.views.wait_for(|view| is_it(view))).await.map(|found| found.unwrap().clone());
        found.unwrap_or_else(|_| panic!("waited for {what}, the last view is {:?}", self.views.borrow()))
    }

    async fn until_listed(&mut self, count: usize) -> Vec<Transport> {
        let view = self
            .until(&format!("{count} phones"), |view| matches!(view, View::Listed(list) if list.len() == count))
            .await;
        listed(view)
    }

    async fn until_unreachable(&mut self) -> String {
        match self.until("an unreachable server", |view| matches!(view, View::Unreachable(_))).await {
            View::Unreachable(why) => why,
            other => panic!("{other:?}"),
        }
    }
}

fn listed(view: View) -> Vec<Transport> {
    match view {
        View::Listed(list) => list,
        other => panic!("{other:?}"),
    }
}

fn three() -> [Phone; 3] {
    [
        Phone::on_usb("R58M123ABC", "3-1.2"),
        Phone::on_usb("", "3-1.3").in_state("unauthorized"),
        Phone::on_tcp("192.168.1.7:5555", "R58M123ABC"),
    ]
}

#[tokio::test]
async fn one_question_is_answered_with_what_the_phones_tell() {
    let adb = Server::start().await.unwrap();
    adb.set(three());
    let list = listed(client::ask(adb.address(), LONG).await);
    let states: Vec<_> = list.iter().map(|phone| (phone.serial.as_str(), phone.state.clone())).collect();
    let expected = [("", State::Unauthorized), ("R58M123ABC", State::Device), ("192.168.1.7:5555", State::Device)];
    assert_eq!(states, expected);
    assert_eq!(list[1].devpath.as_deref(), Some("3-1.2"));
    assert_eq!(list[1].model.as_deref(), Some("SM_F721U"));
    assert_eq!(list[0].told, None);
    let told = list[2].told.clone().unwrap();
    assert_eq!(told.serial.as_deref(), Some("R58M123ABC"));
    assert_eq!(told.model.as_deref(), Some("SM-F721U"));
    assert_eq!(told.android_version.as_deref(), Some("14"));
    assert_eq!(told.abi.as_deref(), Some("arm64-v8a"));
    assert_eq!(told.memory, Some(7_654_321 * 1024));
}

#[tokio::test]
async fn one_question_ends_although_a_phone_hangs() {
    let adb = Server::start().await.unwrap();
    adb.set([Phone::on_usb("A", "1-1").that_hangs(), Phone::on_usb("B", "1-2")]);
    let list = listed(client::ask(adb.address(), Duration::from_secs(1)).await);
    assert_eq!(list.iter().map(|phone| phone.told.is_some()).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn one_question_to_nobody_says_why() {
    let mut adb = Server::start().await.unwrap();
    adb.die().await;
    let View::Unreachable(why) = client::ask(adb.address(), LONG).await else { panic!("somebody answered") };
    assert!(why.contains("refused"), "{why}");
}

#[tokio::test]
async fn changes_are_followed_down_to_an_empty_list() {
    let adb = Server::start().await.unwrap();
    let mut following = Following::start(adb.address(), quick());
    assert_eq!(following.until_listed(0).await, []);
    adb.set(three());
    following.until_listed(3).await;
    adb.set([]);
    following.until_listed(0).await;
    let asked = adb.asked();
    assert!(!asked.iter().any(|service| service == "host:devices-l"), "it polls: {asked:?}");
}

#[tokio::test]
async fn an_old_server_is_followed_too() {
    let adb = Server::start().await.unwrap();
    adb.behave(Manner::Old);
    let mut following = Following::start(adb.address(), quick());
    following.until_listed(0).await;
    adb.set([Phone::on_usb("A", "1-1").in_state("offline")]);
    let list = following.until_listed(1).await;
    assert_eq!((list[0].serial.as_str(), &list[0].state), ("A", &State::Offline));
}

#[tokio::test]
async fn a_change_on_an_old_server_outlives_the_answer_of_a_phone() {
    let adb = Server::start().await.unwrap();
    adb.behave(Manner::OldAndCrowded);
    let phones = [Phone::on_usb("A", "1-1"), Phone::on_usb("B", "1-2").in_state("unauthorized")];
    adb.set(phones[..1].iter().cloned());
    let timing = Timing { deadline: LONG * 10, phone_deadline: LONG * 10, check: LONG * 10, ..quick() };
    let mut following = Following::start(adb.address(), timing);
    following.until_listed(1).await;
    adb.set(phones);
    following.until_listed(2).await;
}

#[tokio::test]
async fn a_phone_is_asked_once_while_its_connection_lasts() {
    let adb = Server::start().await.unwrap();
    let phones: Vec<_> = (1..=20).map(|port| Phone::on_usb(&format!("R{port}"), &format!("1-{port}"))).collect();
    adb.set(phones.clone());
    let mut following = Following::start(adb.address(), quick());
    let all_told =
        |view: &View| matches!(view, View::Listed(list) if list.len() == 20 && list.iter().all(|p| p.told.is_some()));
    following.until("20 answers", all_told).await;
    adb.set(phones[..19].iter().cloned());
    following.until_listed(19).await;
    adb.set(phones);
    let list = following.until("the 20th again", all_told).await;
    assert_eq!(listed(list).len(), 20);
    let questions = adb.asked().iter().filter(|service| service.starts_with("shell:")).count();
    assert_eq!(questions, 21, "the one that was away has a new connection, the others were asked before");
}

#[tokio::test]
async fn phones_that_hang_do_not_hold_up_the_others() {
    let adb = Server::start().await.unwrap();
    let hung = (1..=5).map(|port| Phone::on_usb(&format!("H{port}"), &format!("1-{port}")).that_hangs());
    adb.set(hung.chain([Phone::on_usb("R", "1-6")]));
    let mut following = Following::start(adb.address(), quick());
    let told =
        |view: &View| matches!(view, View::Listed(list) if list.last().is_some_and(|phone| phone.told.is_some()));
    let list = listed(following.until("the sixth phone's answer", told).await);
    assert!(list[..5].iter().all(|phone| phone.state == State::Device && phone.told.is_none()));
}

#[tokio::test]
async fn a_phone_that_came_back_to_an_address_is_asked_again() {
    let adb = Server::start().await.unwrap();
    let at = |own: &str, state: &str| Phone { id: 9, ..Phone::on_tcp("10.0.0.5:5555", own).in_state(state) };
    let says = |own: &'static str| {
        move |view: &View| {
            let View::Listed(list) = view else { return false };
            list.iter().any(|phone| phone.told.as_ref().and_then(|told| told.serial.as_deref()) == Some(own))
        }
    };
    adb.set([at("A", "device")]);
    let mut following = Following::start(adb.address(), quick());
    following.until("A", says("A")).await;
    adb.set([at("A", "offline")]);
    let offline = |view: &View| matches!(view, View::Listed(list) if list[0].state == State::Offline);
    let list = listed(following.until("an offline phone", offline).await);
    assert!(list[0].told.is_some(), "what it told stands while the connection is broken");
    adb.set([at("B", "device")]);
    following.until("B", says("B")).await;
}

#[tokio::test]
async fn a_server_that_dies_is_said_to_be_gone_and_found_again() {
    let mut adb = Server::start().await.unwrap();
    adb.set(three());
    let mut following = Following::start(adb.address(), quick());
    following.until_listed(3).await;
    adb.die().await;
    following.until_unreachable().await;
    adb.come_back().await.unwrap();
    following.until_listed(3).await;
    let asked = adb.asked();
    assert!(!asked.iter().any(|service| service.contains("kill")), "{asked:?}");
}

#[tokio::test]
async fn a_server_that_never_was_is_found_when_it_starts() {
    let mut adb = Server::start().await.unwrap();
    adb.die().await;
    let mut following = Following::start(adb.address(), quick());
    let why = following.until_unreachable().await;
    assert!(why.contains("refused"), "{why}");
    adb.come_back().await.unwrap();
    following.until_listed(0).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_said() {
    let cases = [
        ("silent", Manner::Silent, "no answer within"),
        ("another protocol", Manner::Says(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), "no adb server"),
        ("a length that is none", Manner::Says(b"OKAYwxyz".to_vec()), "no adb server"),
        ("a version that is none", Manner::Says(b"OKAY0004cafz".to_vec()), "no adb server"),
        ("cut in the middle", Manner::Says(b"OKAY00ff0029".to_vec()), "ended before"),
        ("nothing at all", Manner::Says(Vec::new()), "ended before"),
        ("a refusal", Manner::Says(b"FAIL0004nope".to_vec()), "refused: nope"),
    ];
    for (name, manner, expected) in cases {
        let adb = Server::start().await.unwrap();
        adb.behave(manner);
        let why = Following::start(adb.address(), quick()).until_unreachable().await;
        assert!(why.contains(expected), "{name}: {why}");
    }
}

#[tokio::test]
async fn half_a_list_is_not_waited_for_for_ever() {
    let adb = Server::start().await.unwrap();
    adb.behave(Manner::HalfLists);
    let mut following = Following::start(adb.address(), quick());
    following.until_listed(0).await;
    adb.set(three());
    let why = following.until_unreachable().await;
    assert!(why.contains("no answer within"), "{why}");
    adb.behave(Manner::Well);
    following.until_listed(3).await;
}

#[tokio::test]
async fn a_server_that_hangs_between_two_lists_is_noticed() {
    let adb = Server::start().await.unwrap();
    let mut following = Following::start(adb.address(), Timing { check: Duration::from_millis(20), ..quick() });
    following.until_listed(0).await;
    adb.behave(Manner::Silent);
    let why = following.until_unreachable().await;
    assert!(why.contains("no answer within"), "{why}");
}

#[tokio::test]
async fn following_ends_when_nobody_listens() {
    let adb = Server::start().await.unwrap();
    let (sender, views) = watch::channel(View::NotAsked);
    let following = tokio::spawn(client::watch(adb.address(), quick(), sender));
    adb.asked_for("host:track-devices", 1).await;
    drop(views);
    timeout(LONG, following).await.expect("it goes on").unwrap();
}

#[tokio::test]
async fn a_real_server_is_followed_from_its_first_phone_to_its_end() {
    let home = tempfile::tempdir().unwrap();
    let mut adb = RealServer::start(home.path()).await.unwrap();
    let mut following = Following::start(
        adb.address(),
        Timing { deadline: LONG, phone_deadline: LONG, check: Duration::from_millis(50), ..quick() },
    );
    following.until_listed(0).await;
    let phone = Adbd::start(Phone::on_tcp("", "R58M123ABC")).await.unwrap();
    let locked = Adbd::start(Phone::on_tcp("", "R58M123ABD").in_state("unauthorized")).await.unwrap();
    for adbd in [&phone, &locked] {
        answer(adb.address(), &[&format!("host:connect:{}", adbd.address())], u64::MAX).await.unwrap();
    }
    let settled = |view: &View| {
        let View::Listed(list) = view else { return false };
        let told = list.iter().find_map(|phone| phone.told.as_ref()?.serial.as_deref());
        told == Some("R58M123ABC") && list.iter().any(|phone| phone.state == State::Unauthorized)
    };
    let list = listed(following.until("both phones", settled).await);
    let told = list.iter().find_map(|phone| phone.told.clone()).unwrap();
    assert_eq!((told.model.as_deref(), told.memory), (Some("SM-F721U"), Some(7_654_321 * 1024)));
    drop(phone);
    let offline =
        |view: &View| matches!(view, View::Listed(list) if list.iter().any(|phone| phone.state == State::Offline));
    following.until("the phone that went away", offline).await;
    adb.die().await.unwrap();
    following.until_unreachable().await;
}
