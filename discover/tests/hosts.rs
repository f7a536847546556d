//! Host, disks and interfaces of every kind of machine, exactly as they have to be found.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::error::Error;

use hatrack_api::cluster_node::{Class, ClusterNodeSpec, Disk, Interface};
use hatrack_discover::doubt::Subject;
use hatrack_discover::inventory::{self, Answers, Inventory};
use hatrack_discover::names::Names;
use hatrack_discover::phone::adb::{State, Transport, View};
use hatrack_discover::root::{Root, Unreadable};
use hatrack_discover::{condition, host, network, raspberry_pi, storage};
use hatrack_fixtures::{MachineCopy, machine, machine_copy};

const NONE: &str = "-";

/// Machine; hostname, architecture, kernel and distribution; processor, cores/threads and memory; board; NixOS version and
/// generation; hardware id.
const HOSTS: [[&str; 6]; 9] = [
    [
        "server-8gpu",
        "gpu-1 x86_64 6.12.30 NixOS 26.05 (Yarara)",
        "Intel(R) Xeon(R) Platinum 8480C 112/224 2113416412Ki",
        "NVIDIA DGXH100",
        "26.05.20260601.3f0a8ac 42",
        "8f2d6c3a-51b7-4e0e-9c64-3cecef1a2b70",
    ],
    [
        "phones-20",
        "phones-1 x86_64 6.12.30 NixOS 26.05 (Yarara)",
        "Intel(R) Core(TM) i5-12400 6/12 32612468Ki",
        "Gigabyte Technology Co., Ltd. B660M DS3H DDR4",
        "26.05.20260601.3f0a8ac 7",
        "03aa02fc-0414-05d0-c606-a80700080009",
    ],
    [
        "laptop-intel-npu",
        "aisling-t14 x86_64 6.12.27-amd64 Debian GNU/Linux 13 (trixie)",
        "Intel(R) Core(TM) Ultra 7 155H 16/22 32393284Ki",
        "LENOVO 21MLCTO1WW",
        NONE,
        "28:95:29:4c:5d:6e",
    ],
    // Its UUID is AMI's default and its product name a filler: the board's name and the MAC address are left.
    [
        "gpu-no-driver",
        "rig x86_64 6.8.0-60-generic Ubuntu 24.04.2 LTS",
        "Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz 6/12 32795532Ki",
        "ASUSTeK COMPUTER INC. PRIME Z370-P",
        NONE,
        "70:85:c2:1d:3e:5f",
    ],
    // A UUID of all F, and an address that QEMU made up.
    [
        "vm-empty",
        "vm-1 x86_64 6.12.27-amd64 Debian GNU/Linux 13 (trixie)",
        "QEMU Virtual CPU version 2.5+ 2/2 2030152Ki",
        "QEMU Standard PC (Q35 + ICH9, 2009)",
        NONE,
        NONE,
    ],
    [
        "pi5-ai-hat-plus-2",
        "pi-2 aarch64 6.12.47 NixOS 26.05 (Yarara)",
        "Cortex-A76 4/4 16516512Ki",
        "Raspberry Pi Raspberry Pi 5 Model B (16 GB) + Raspberry Pi AI HAT+ 2 3b9d7a10-8c4f-4f5e-b2d6-7e1f0a9c8b47",
        "26.05.20260601.3f0a8ac 3",
        "a1b2c3d4e5f60718",
    ],
    [
        "pi4-coral-usb",
        "pi-4 aarch64 6.12.47+rpt-rpi-v8 Debian GNU/Linux 13 (trixie)",
        "Cortex-A72 4/4 3885340Ki",
        "Raspberry Pi Raspberry Pi 4 Model B (4 GB)",
        NONE,
        "10000000a3b1c2d4",
    ],
    [
        "jetson-orin-nano",
        "jetson aarch64 5.15.148-tegra Ubuntu 24.04.2 LTS",
        "Cortex-A78AE 6/6 7802512Ki",
        "- NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        NONE,
        "1424524012345",
    ],
    // The dump has no /etc, and a `cpuinfo` that does not count cores.
    [
        "power9-nvlink",
        " ppc64le 4.14.0-49.el7a.bz1553205.page_fault_hang.ppc64le -",
        "POWER9, altivec supported -/176 358162944Ki",
        NONE,
        NONE,
        NONE,
    ],
];

fn or_none(text: Option<impl ToString>) -> String {
    text.map_or_else(|| NONE.to_owned(), |text| text.to_string())
}

#[test]
fn every_host_is_described_exactly() {
    for [name, system, cpu, board, nixos, hardware_id] in HOSTS {
        let fixture = machine(name).unwrap();
        let found = host::collect(&Root::at(fixture.path()));
        assert!(found.unreadable.is_empty(), "{name}: {:?}", found.unreadable);
        let (identity, told) = (found.identity, found.system);
        let os = or_none(told.os_image);
        assert_eq!(
            format!("{} {} {} {os}", identity.hostname, told.architecture, told.kernel_version),
            system,
            "{name}"
        );
        let (processors, memory) = (told.cpu, or_none(told.memory.map(|memory| memory.0)));
        let (model, cores) = (or_none(processors.model), or_none(processors.cores));
        assert_eq!(format!("{model} {cores}/{} {memory}", processors.threads), cpu, "{name}");
        let found_board = told.board.map(|board| {
            let hats = board.add_ons.into_iter();
            let hats = hats.map(|hat| format!(" + {} {} {}", hat.vendor, hat.product, or_none(hat.uuid)));
            format!("{} {}{}", or_none(board.vendor), board.model, hats.collect::<String>())
        });
        assert_eq!(or_none(found_board), board, "{name}");
        let found_nixos = told.nixos.map(|nixos| format!("{} {}", nixos.version, or_none(nixos.generation)));
        assert_eq!(or_none(found_nixos), nixos, "{name}");
        assert_eq!(or_none(found.hardware_id), hardware_id, "{name}");
    }
}

#[test]
fn the_ids_of_installation_and_boot_are_told() {
    let fixture = machine("phones-20").unwrap();
    let identity = host::collect(&Root::at(fixture.path())).identity;
    assert_eq!(identity.machine_id.as_deref(), Some("4d3c2b1a0f9e4d8c7b6a5f4e3d2c1b0a"));
    assert_eq!(identity.boot_id.as_deref(), Some("e21f4b5c-8d3a-4c7e-b0f9-6a1d2e3f4b5c"));
    let copy = hatrack_fixtures::machine_copy("vm-arm64-empty").unwrap();
    copy.write("etc/machine-id", "uninitialized\n").unwrap();
    assert_eq!(host::collect(&Root::at(copy.path())).identity.machine_id, None);
}

/// Asks a collector about a machine.
fn of<T>(name: &str, collect: fn(&Root) -> Result<Vec<T>, Unreadable>) -> Result<Vec<T>, Box<dyn Error>> {
    let fixture = machine(name)?;
    Ok(collect(&Root::at(fixture.path()))?)
}

/// Name, address, speed, carrier.
fn interfaces(name: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let line = |port: Interface| {
        format!("{} {} {} {}", port.name, or_none(port.mac), or_none(port.speed), or_none(port.carrier))
    };
    Ok(of(name, network::collect)?.into_iter().map(line).collect())
}

#[test]
fn interfaces_are_hardware_with_the_address_of_the_hardware() {
    let server = [
        "eno1 3c:ec:ef:1a:2b:70 10000 true",
        "eno2 3c:ec:ef:1a:2b:71 - -",
        "ens6f0np0 a0:88:c2:45:10:20 200000 true",
        "ens6f1np1 a0:88:c2:45:10:21 - -",
        "ibp154s0 a0:88:c2:03:00:60:1b:a9 400000 true",
        "ibp192s0 a0:88:c2:03:00:3c:b0:16 400000 true",
        "ibp206s0 a0:88:c2:03:00:a6:84:e6 - -",
        "ibp220s0 a0:88:c2:03:00:ce:24:9b 400000 true",
        "ibp24s0 a0:88:c2:03:00:05:b3:44 400000 true",
        "ibp64s0 a0:88:c2:03:00:79:e6:e9 400000 true",
        "ibp79s0 a0:88:c2:03:00:1d:a9:42 400000 true",
        "ibp94s0 a0:88:c2:03:00:d0:10:62 400000 true",
    ];
    assert_eq!(interfaces("server-8gpu").unwrap(), server);
    let pi = ["eth0 2c:cf:67:1a:2b:3c 1000 true", "wlan0 2c:cf:67:1a:2b:3d - -"];
    assert_eq!(interfaces("pi5-ai-hat-plus").unwrap(), pi);
    assert_eq!(interfaces("vm-empty").unwrap(), ["enp1s0 52:54:00:8a:1c:3e - true"]);
    assert_eq!(interfaces("desktop-radeon").unwrap(), [""; 0]);
}

/// Name, model, size, rotational, health, name by id.
fn disks(name: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let line = |disk: Disk| {
        let health = or_none(disk.health.map(|health| health.reason));
        let (model, rotational, by_id) = (or_none(disk.model), or_none(disk.rotational), or_none(disk.by_id));
        format!("{} {model} {} {rotational} {health} {by_id}", disk.name, disk.size.0)
    };
    Ok(of(name, storage::collect)?.into_iter().map(line).collect())
}

#[test]
fn disks_have_the_name_that_a_disk_layout_uses() {
    let rig = [
        "sda CT500MX500SSD1 488386584Ki false DiskRunning ata-CT500MX500SSD1_2013E299A1B2",
        "sdb ST8000DM004-2CX1 7814026584Ki true DiskRunning ata-ST8000DM004-2CX188_ZCT0A1B2",
    ];
    assert_eq!(disks("gpu-no-driver").unwrap(), rig);
    let box_ = ["nvme0n1 CT1000P3PSSD8 976762584Ki false ControllerLive nvme-CT1000P3PSSD8_2323E6D0A1B2"];
    assert_eq!(disks("phones-20").unwrap(), box_);
    assert_eq!(disks("pi5-ai-hat-plus").unwrap(), ["mmcblk0 SD128 122240Mi false - mmc-SD128_0x4f2a10c3"]);
    assert_eq!(disks("vm-empty").unwrap(), ["vda - 20Gi - - -"], "a hypervisor's disk; its optical drive is none");
    assert_eq!(disks("server-infiniband").unwrap(), ["sda PERC H700 1715328Mi true DiskRunning -"]);
    assert_eq!(disks("server-8gpu").unwrap().len(), 10);
}

#[test]
fn a_big_machine_is_described_by_few_files() {
    let fixture = machine("server-8gpu").unwrap();
    let root = Root::at(fixture.path());
    host::collect(&root);
    network::collect(&root).unwrap();
    storage::collect(&root).unwrap();
    raspberry_pi::cameras(&root).unwrap();
    assert!(root.opened() <= 110, "224 threads, 12 interfaces and 10 disks took {} files", root.opened());
}

#[test]
fn an_ai_camera_is_in_the_inventory() {
    let fixture = machine("pi5-ai-camera").unwrap();
    let root = Root::at(fixture.path());
    let facts = inventory::look(&root);
    let inventory = Inventory::compose(&root, facts, &Answers::default(), &mut Names::default(), None);
    let devices: Vec<_> =
        inventory.devices.iter().map(|device| (device.name.as_str(), device.health.is_usable())).collect();
    assert_eq!(devices, [("accelerator-i2c-88000-1a", true)]);
    assert!(inventory.doubts.is_empty(), "{:?}", inventory.doubts);
}

/// A machine that has files for what is asked here and no others.
fn small() -> MachineCopy {
    let machine = machine_copy("vm-empty").unwrap();
    machine.remove("sys").unwrap();
    machine
}

fn look(machine: &MachineCopy, phones: Vec<Transport>, names: &mut Names) -> Inventory {
    let root = Root::at(machine.path());
    let answers = Answers { adb: View::Listed(phones), ..Answers::default() };
    Inventory::compose(&root, inventory::look(&root), &answers, names, None)
}

fn phone(address: String) -> Transport {
    Transport { serial: address, state: State::Device, ..Transport::default() }
}

#[test]
fn what_an_object_has_no_room_for_is_left_out_and_doubted() {
    let machine = small();
    for number in 0..70 {
        let device = format!("sys/devices/pci0000:00/0000:00:02.0/0000:01:00.{number}");
        machine.link(&format!("{device}/net/eth{number}/device"), "../..").unwrap();
        machine.link(&format!("sys/class/net/eth{number}"), &format!("../../../{device}/net/eth{number}")).unwrap();
    }
    let phones = (0..300).map(|number| phone(format!("10.0.{}.{}:5555", number / 250, number % 250))).collect();
    let inventory = look(&machine, phones, &mut Names::default());
    assert_eq!((inventory.devices.len(), inventory.interfaces.len()), (256, 64));
    let doubts: Vec<_> = inventory.doubts.iter().map(|doubt| (doubt.about, doubt.why.as_str())).collect();
    let expected = [
        (Subject::Devices, "there are 300 devices, and an object has room for 256: the last ones by name are left out"),
        (
            Subject::Network,
            "there are 70 network interfaces, and an object has room for 64: the last ones by name are left out",
        ),
    ];
    assert_eq!(doubts, expected);
    let spec = ClusterNodeSpec::of(Class::Worker);
    let healthy = &condition::verdicts("a", &inventory, &spec, None)[0];
    assert_eq!((healthy.status, healthy.reason), ("Unknown", "NotObserved"), "{}", healthy.message);
}

#[test]
fn phones_that_come_under_a_new_address_each_time_do_not_fill_the_memory_of_names() {
    let machine = small();
    let mut names = Names::default();
    let first = look(&machine, vec![phone("adb-0000-aaaaaa".to_owned())], &mut names).devices;
    for number in 1..1100 {
        look(&machine, vec![phone(format!("adb-{number:04}-aaaaaa"))], &mut names);
    }
    let kept = serde_json::to_value(&names).unwrap();
    assert_eq!(kept.as_object().unwrap().len(), 1024);
    assert!(kept.get(&first[0].name).is_none(), "an old one is forgotten");
}
