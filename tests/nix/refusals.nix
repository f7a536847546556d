# Each state that is a build error, and the words by which it is one. The answer is what went wrong; nothing is good.
self:
let
  inherit (self.inputs.nixpkgs) lib;
  byId = "/dev/disk/by-id/ata-A";

  founder = {
    class = "control-plane";
    system = "x86_64-linux";
    modules = [
      (self.lib.disks.single-disk { device = "/dev/disk/by-id/ata-F"; })
      {
        hatrack.host = {
          address = "10.0.0.1";
          hardwareId = "4c4c4544-0042-3510-8051-b4c04f4d3132";
        };
      }
    ];
  };

  # What is right about every machine, so that a case is wrong in one way.
  sound = withVersion: {
    hatrack = {
      base.sshKeys = [ "ssh-ed25519 AAAA ada@desk" ];
      cluster.founder = lib.mkDefault "founder";
      k3s.tokenFile = "/run/token";
      adb.keyFile = lib.mkDefault "/run/adb";
    };
    system = lib.optionalAttrs withVersion { stateVersion = "26.05"; };
    documentation.enable = false;
  };

  # Where a machine has no layout.
  root = {
    fileSystems."/" = lib.mkDefault {
      device = "/dev/disk/by-label/root";
      fsType = "ext4";
    };
    boot.loader.grub.enable = false;
  };

  # What a module of nixos-hardware brings, as far as ours asks for it.
  board.options.hardware.raspberry-pi.firmware = lib.mkOption {
    type = lib.types.anything;
    default = { };
  };

  # The machine `subject` of a class beside a founder.
  cluster =
    {
      class,
      module,
      unset ? null,
      others ? { },
      ...
    }:
    self.lib.mkCluster {
      modules = [ (sound (unset != "stateVersion")) ] ++ lib.optional (unset != "root") root;
      hosts = {
        inherit founder;
      }
      // others
      // {
        subject = {
          inherit class;
          system = if class == "pi-ai-hat" then "aarch64-linux" else "x86_64-linux";
          modules = [
            { hatrack.host.address = lib.mkDefault "10.0.0.2"; }
            module
          ]
          ++ lib.optional (class == "pi-ai-hat" && unset != "board") board;
        };
      };
    };

  refusals =
    case:
    map (assertion: assertion.message) (
      lib.filter (assertion: !assertion.assertion) (cluster case).subject.config.assertions
    );

  # A package as far as the rules look at it.
  driverOf = version: {
    type = "derivation";
    name = "hailo-pci-${version}";
    outPath = "${builtins.storeDir}/hailo-pci-${version}";
    inherit version;
  };

  boot = {
    boot.loader.systemd-boot.enable = true;
  };

  # What the class and the module are refused with.
  cases = {
    "two founders".worker = {
      hatrack.cluster.founder = "subject";
      __words = "two founders make two clusters";
    };
    "a second cluster by the option of k3s".control-plane = {
      services.k3s.clusterInit = lib.mkForce true;
      __words = "services.k3s.clusterInit is set on subject";
    };
    "no founder".worker = {
      hatrack.cluster.founder = lib.mkForce null;
      __words = "hatrack.cluster.founder is not set";
    };
    "a founder that runs no control plane".worker = {
      hatrack.cluster.founder = "subject";
      __words = "the founder must be a server";
    };
    "a founder that is no host".worker = {
      hatrack.cluster.founder = "foundr";
      hatrack.k3s.founderAddress = "10.0.0.1";
      __words = "hatrack.cluster.founder is foundr, which is no host of this cluster: it has founder, subject.";
    };
    "a joiner whose founder has no address".worker = {
      hatrack.cluster.founder = "nobody";
      __words = "whose address is not known";
    };
    "a machine of Kubernetes without an address".worker = {
      hatrack.host.address = null;
      __words = "hatrack.host.address of subject is not set";
    };
    "no join token".worker = {
      hatrack.k3s.tokenFile = lib.mkForce null;
      __words = "hatrack.k3s.tokenFile of subject is not set";
    };
    "a token as a literal".worker = {
      services.k3s.token = "secret";
      __words = "services.k3s.token of subject is a literal";
    };
    "no token to enroll with".phone-orchestrator = {
      hatrack.agent.enrollment.tokenFile = null;
      __words = "hatrack.agent.enrollment.tokenFile of subject is not set";
    };
    "an enrollment by a kubelet that is not there".phone-orchestrator = {
      hatrack.agent.enrollment.by = "kubelet";
      __words = "hatrack.agent.enrollment.by of subject is kubelet, and no kubelet runs there";
    };
    "no way to enroll and no other access".worker = {
      hatrack.agent.enrollment.by = null;
      __words = "hatrack.agent.enrollment.by of subject is null, and hatrack.agent.settings.api names no other access";
    };
    "an enrollment beside another access".worker = {
      hatrack.agent.settings.api.kubeconfig = "/etc/hatrack/kubeconfig";
      __words = "hatrack.agent.settings.api.kubeconfig of subject is set beside hatrack.agent.enrollment.by";
    };
    "a token of agents as a literal".worker = {
      services.k3s.agentToken = "secret";
      __words = "services.k3s.agentToken of subject is a literal";
    };
    "a token among the flags".worker = {
      hatrack.k3s.flags = [ "--token=secret" ];
      __words = "the flags of k3s of subject have a token";
    };
    "a token among the flags, in two words".control-plane = {
      hatrack.k3s.flags = [ "--agent-token secret" ];
      __words = "the flags of k3s of subject have a token";
    };
    "an access of the repository".worker = {
      hatrack.agent.settings.api.kubeconfig = ./refusals.nix;
      __words = "hatrack.agent.settings.api.kubeconfig of subject is no path outside of the Nix store";
    };
    "an access of the store, for the operator".control-plane = {
      hatrack.operator.settings.api.kubeconfig = "${builtins.storeDir}/abc-kubeconfig";
      __words = "hatrack.operator.settings.api.kubeconfig of subject is no path outside of the Nix store";
    };
    "credentials of NATS of the repository".control-plane = {
      hatrack.operator.settings.nats.credentials = ./refusals.nix;
      __words = "hatrack.operator.settings.nats.credentials of subject is no path outside of the Nix store";
    };
    "one network here and another there".worker = {
      hatrack.cilium.enable = lib.mkForce true;
      __words = "the network of subject is Cilium with pods in 10.42.0.0/16, but flannel on founder";
    };
    "a GPU class without a driver".gpu-worker = {
      __words = "hatrack.gpu.driver of subject is not set";
    };
    "phones and Kubernetes".phone-orchestrator = {
      hatrack.k3s.enable = true;
      __words = "is a phone-orchestrator and a Kubernetes worker";
    };
    "phones and Kubernetes, past the module".phone-orchestrator = {
      services.k3s.enable = true;
      __words = "is a phone-orchestrator and a Kubernetes worker";
    };
    "an adb server without a fixed key".phone-orchestrator = {
      hatrack.adb.keyFile = null;
      __words = "hatrack.adb.keyFile of subject is not set";
    };
    "more phones than the controllers carry".phone-orchestrator = {
      hatrack.agent.expects.phones = 31;
      __words = "more than 1 USB controllers carry";
    };
    "no disk layout".worker = {
      __unset = "root";
      __alone = true;
      __words = "subject has no disk layout: put disks.single-disk";
    };
    "a disk for volumes alone".worker = {
      imports = [ (self.lib.disks.data-disks { devices = [ byId ]; }) ];
      __unset = "root";
      __alone = true;
      __words = "subject has no disk layout: put disks.single-disk";
    };
    "a hardware report of another architecture".worker = {
      hardware.facter.reportPath = ./report-of-aarch64.json;
      __words = "hardware.facter.reportPath of subject is the report of a machine that is aarch64-linux, and its system is x86_64-linux";
    };
    "a disk by its place, SATA".worker = {
      imports = [ (self.lib.disks.single-disk { device = "/dev/sda"; }) ];
      __words = "disko.devices.disk.system.device of subject is /dev/sda";
    };
    "a disk by its place, NVMe".worker = {
      imports = [ (self.lib.disks.data-disks { devices = [ "/dev/nvme0n1" ]; }) ];
      __words = "disko.devices.disk.data-1.device of subject is /dev/nvme0n1";
    };
    "a disk that is not filled in".worker = {
      imports = [ (self.lib.disks.single-disk { device = "/dev/disk/by-id/REPLACE-ME"; }) ];
      __words = "disko.devices.disk.system.device of subject is not filled in";
    };
    "a partition".worker = {
      imports = [ (self.lib.disks.single-disk { device = "${byId}-part1"; }) ];
      __words = "disko.devices.disk.system.device of subject is ${byId}-part1, a partition";
    };
    "a disk of another host".worker = {
      imports = [ (self.lib.disks.single-disk { device = "/dev/disk/by-id/ata-F"; }) ];
      __words = "disko.devices.disk.system.device of subject is /dev/disk/by-id/ata-F, which another host names as well";
    };
    "secrets that are not there".worker = {
      hatrack.secrets.file = ./no-secrets.yaml;
      __words = "is not there: `nix run .#init` makes it";
    };
    "secrets in the clear".worker = {
      hatrack.secrets.file = ./report-without-disks.json;
      __words = "is not encrypted by sops";
    };
    "limits that are not there".control-plane = {
      hatrack.society.policy = ./no-policy.yaml;
      __words = "is not there: `nix run .#init` makes it";
    };
    "one disk for the system and for volumes".worker = {
      imports = [
        (self.lib.disks.single-disk { device = byId; })
        (self.lib.disks.data-disks { devices = [ byId ]; })
      ];
      __words = "/dev/disk/by-id/ata-A of subject is disko.devices.disk.data-1 and disko.devices.disk.system";
    };
    "a file system by its place".worker = {
      fileSystems."/srv" = {
        device = "/dev/sdb1";
        fsType = "ext4";
      };
      __words = "fileSystems.\"/srv\".device of subject is /dev/sdb1";
    };
    "swap by its place".worker = {
      swapDevices = [ { device = "/dev/nvme0n1p3"; } ];
      __words = "swapDevices of subject is /dev/nvme0n1p3";
    };
    "a mirror on one disk".worker = {
      imports = [
        (self.lib.disks.zfs-mirror {
          devices = [
            byId
            byId
          ];
        })
      ];
      networking.hostId = "7d1f93c4";
      __words = "needs two different disks";
    };
    "ZFS without hostId".worker = {
      hatrack.zfs.enable = true;
      __words = "networking.hostId of subject is not set";
    };
    "no state version".worker = {
      __unset = "stateVersion";
      __words = "system.stateVersion is not set on subject";
    };
    "no ssh key".worker = {
      hatrack.base.sshKeys = lib.mkForce [ ];
      __words = "hatrack.base.sshKeys is empty";
    };
    "a Pi with systemd-boot".pi-ai-hat = boot // {
      __words = "boot.loader.systemd-boot.enable is set on subject, a Raspberry Pi";
    };
    "a Pi without its board".pi-ai-hat = {
      __unset = "board";
      __words = "subject has no module of its board";
    };
    "a Pi of another architecture".pi-ai-hat = {
      nixpkgs.hostPlatform = lib.mkForce "x86_64-linux";
      __words = "the system of subject is x86_64-linux: a Raspberry Pi is aarch64-linux";
    };
    "a Pi over ssh".pi-ai-hat = {
      hatrack.host.install = "nixos-anywhere";
      __words = "a Raspberry Pi cannot kexec";
    };
    "one address twice".worker = {
      hatrack.host.address = "10.0.0.1";
      __words = "hatrack.host.address is 10.0.0.1 on subject and on founder";
    };
    "one board twice".worker = {
      hatrack.host.hardwareId = "4C4C4544-0042-3510-8051-B4C04F4D3132";
      __words = "hatrack.host.hardwareId is 4C4C4544-0042-3510-8051-B4C04F4D3132 on subject and on founder";
    };
    "one name twice".worker = {
      networking.hostName = lib.mkForce "founder";
      __words = "is the name of another host of the cluster";
    };
    "one name twice, of one class".control-plane = {
      networking.hostName = lib.mkForce "founder";
      hatrack.host.address = null;
      __words = "is the name of another host of the cluster";
    };
    "a name that is no node's".worker = {
      networking.hostName = lib.mkForce "Subject";
      __words = "cannot be the name of a ClusterNode";
    };
    "a Hailo without its driver".pi-ai-hat = {
      hatrack.hailo.generation = "10h";
      __words = "hatrack.hailo.driver is not set";
    };
    "a Hailo without its firmware".pi-ai-hat = {
      hatrack.hailo.generation = "8";
      __words = "hatrack.hailo.firmware is not set";
    };
    "a Hailo driver of the other generation".pi-ai-hat = {
      hatrack.hailo.generation = "8";
      hatrack.hailo.driver = _: driverOf "5.1.0";
      __words = "hatrack.hailo.driver of subject is of version 5.x, and hatrack.hailo.generation 8 needs hailo_pci 4.x";
    };
    "a Hailo driver without a generation".pi-ai-hat = {
      hatrack.hailo.driver = _: driverOf "5.1.0";
      __words = "hatrack.hailo.generation of subject is not set";
    };
    "volumes on the system's disk".worker = {
      hatrack.longhorn.enable = true;
      __words = "hatrack.longhorn.storage needs a disk at /var/lib/longhorn";
    };
    "Argo CD without a repository".worker = {
      hatrack.argocd.enable = true;
      __words = "hatrack.argocd.repository is not set";
    };
    "an operator beside no control plane".worker = {
      hatrack.operator.enable = true;
      __words = "hatrack.operator.enable is set on subject, which runs no control plane";
    };
    "a hat that stops too late".worker = {
      systemd.services.repair = {
        wantedBy = [ "hat@repair.target" ];
        partOf = [ "hat@repair.target" ];
        script = "true";
        serviceConfig.TimeoutStopSec = 90;
      };
      __words = "systemd.services.repair.serviceConfig.TimeoutStopSec must be a number of seconds of at most 30";
    };
  };
  flat = lib.mapAttrsToList (
    title: case:
    let
      class = lib.head (lib.attrNames case);
    in
    {
      inherit title class;
      module = removeAttrs case.${class} [
        "__alone"
        "__unset"
        "__words"
      ];
      unset = case.${class}.__unset or null;
      # Whether nothing else may be said.
      alone = case.${class}.__alone or false;
      words = case.${class}.__words;
    }
  ) cases;

  wrong = lib.concatMap (
    case:
    let
      messages = refusals case;
    in
    lib.optional (
      !lib.any (lib.hasInfix case.words) messages || (case.alone && lib.length messages != 1)
    ) "${case.title}: expected `${case.words}`, and the messages are ${builtins.toJSON messages}"
  ) flat;

  # The same machines without anything wrong: a guard that refuses everything guards nothing.
  sane =
    lib.concatMap (case: map (message: "a sound ${case.class} is refused: ${message}") (refusals case))
      [
        {
          class = "worker";
          module = { };
        }
        {
          class = "gpu-worker";
          module.hatrack.gpu.driver = "amdgpu";
        }
        {
          class = "phone-orchestrator";
          module.hatrack.agent.expects.phones = 30;
        }
        {
          class = "phone-orchestrator";
          module.hatrack.agent.enrollment.tokenFile = "/run/secrets/token";
        }
        {
          class = "pi-ai-hat";
          module = { };
        }
        {
          class = "worker";
          module.hatrack.agent = {
            enrollment.by = null;
            settings.api.kubeconfig = "/etc/hatrack/kubeconfig";
          };
        }
        {
          class = "worker";
          module.systemd.services.repair = {
            partOf = [ "hat@repair.target" ];
            script = "true";
            serviceConfig.TimeoutStopSec = 30;
          };
        }
      ];

  # The type, then each option that is to have it: what it refuses, the option refuses.
  secretPath = import ../../lib/secret-path.nix { inherit lib; };
  secrets =
    lib.optional (secretPath.check "/nix/store/abc-token") "a secret in the store is accepted"
    ++ lib.optional (secretPath.check ./refusals.nix) "a secret in the repository is accepted"
    ++ lib.optional (secretPath.check "K10abc::server:def") "a secret as a literal is accepted"
    ++ lib.optional (!secretPath.check "/run/secrets/token") "a secret on the machine is refused"
    ++ lib.concatLists (
      lib.mapAttrsToList (
        name: option:
        lib.optional (option.type.check "K10abc::server:def") "${name} takes a literal"
        ++ lib.optional (option.type.check ./refusals.nix) "${name} takes a file of the repository"
        ++ lib.optional (
          !option.type.check "/run/secrets/token"
        ) "${name} does not take a file of the machine"
      ) secretOptions
    );
  subject =
    (cluster {
      class = "worker";
      module = { };
    }).subject;
  secretOptions = {
    "hatrack.adb.keyFile" = subject.options.hatrack.adb.keyFile;
    "hatrack.agent.enrollment.tokenFile" = subject.options.hatrack.agent.enrollment.tokenFile;
    "hatrack.secrets.hostKey" = subject.options.hatrack.secrets.hostKey;
    "hatrack.k3s.agentTokenFile" = subject.options.hatrack.k3s.agentTokenFile;
    "hatrack.k3s.tokenFile" = subject.options.hatrack.k3s.tokenFile;
  };

  # The same of the option itself, whose value is asked for: what its type refuses cannot be had.
  tokenOf =
    file:
    builtins.tryEval
      (cluster {
        class = "phone-orchestrator";
        module.hatrack.agent.enrollment.tokenFile = file;
      }).subject.config.hatrack.agent.enrollment.tokenFile;
  tokens =
    lib.optional (tokenOf "abcdef.0123456789abcdef").success "a token as a literal is accepted"
    ++ lib.optional (tokenOf ./refusals.nix).success "a token file of the repository is accepted"
    ++ lib.optional (tokenOf "${builtins.storeDir}/abc-token").success "a token file of the store is accepted"
    ++ lib.optional (!(tokenOf "/run/token").success) "a token file of the machine is refused";

  # What is warned of, and what is not.
  warnings = case: (cluster case).subject.config.warnings;
  expectWarning =
    what: start: case:
    lib.optional (
      !lib.any (lib.hasPrefix start) (warnings case)
    ) "nothing is said of ${what}: ${builtins.toJSON (warnings case)}";
  expectNone =
    words: case:
    map (warning: "there is a warning without a reason: ${warning}") (
      lib.filter (lib.hasInfix words) (warnings case)
    );

  # A disk that the hardware report does not have.
  reporting = device: report: {
    class = "worker";
    module = {
      imports = [ (self.lib.disks.data-disks { devices = [ device ]; }) ];
      hardware.facter.reportPath = report;
    };
  };
  reportOfPhones = ../../hosts/phones-1/facter.json;
  ofPhones = "/dev/disk/by-id/ata-CT500MX500SSD1_2204E6056E1B";
  missing = "disko.devices.disk.data-1.device of subject is ${byId}, which its hardware report does not have: that has ${ofPhones}.";
  reports =
    expectWarning "a disk that the report does not have" missing (reporting byId reportOfPhones)
    ++ lib.concatMap (expectNone "hardware report") [
      (reporting ofPhones reportOfPhones)
      (reporting byId null)
      (reporting byId ./report-without-disks.json)
    ];

  # A machine that can report to one of several control planes alone.
  second.control-2 = founder // {
    modules = [ { hatrack.host.address = "10.0.0.3"; } ];
  };
  alone = "subject reports to https://10.0.0.1:6443 alone, though the cluster has 2 control planes";
  reporters =
    expectWarning "an agent that hangs on the founder" alone {
      class = "worker";
      module = { };
      others = second;
    }
    ++ lib.concatMap (expectNone "control planes") [
      {
        class = "worker";
        module = { };
      }
      {
        class = "worker";
        module.hatrack.k3s.founderAddress = "control.example.org";
        others = second;
      }
      {
        class = "control-plane";
        module = { };
        others = second;
      }
    ]
    ++ lib.optional (
      (cluster {
        class = "control-plane";
        module = { };
      }).subject.config.hatrack.agent.enrollment.server != "https://10.0.0.2:6443"
    ) "a server that joins does not report to the API server beside it";

  # What is wrong about the description of a machine itself, wherever it is given, and about the arguments of a disk layout.
  entry = {
    class = "worker";
    system = "x86_64-linux";
  };
  evaluates =
    host:
    (builtins.tryEval (self.lib.mkCluster { hosts.subject = host; }).subject.config.hatrack.host.class)
    .success;
  isMade =
    host:
    (builtins.tryEval (self.lib.mkHost (host // { name = "subject"; })).config.hatrack.host.class)
    .success;
  faultOfHost = import ../../lib/description.nix {
    inherit lib;
    inherit (self.lib) systems;
    classes = import ../../lib/classes.nix;
  } "subject";
  # Each with the words by which it is refused.
  descriptions = {
    "subject has no class: give it one of control-plane, gpu-worker, phone-orchestrator, pi-ai-hat, worker" =
      removeAttrs entry [ "class" ];
    "subject has a class that is none of control-plane, gpu-worker, phone-orchestrator, pi-ai-hat, worker" =
      entry // {
        class = "gpu";
      };
    "subject has no system: give it one of aarch64-linux, x86_64-linux" = removeAttrs entry [
      "system"
    ];
    "subject has a system that is none of aarch64-linux, x86_64-linux" = entry // {
      system = "aarch64";
    };
    "subject has module, and takes class, system and modules" = entry // {
      module = { };
    };
    "subject has modules that are no list: put them into brackets" = entry // {
      modules = { };
    };
  };
  entries =
    lib.concatLists (
      lib.mapAttrsToList (
        words: host:
        lib.optional (
          faultOfHost host != words
        ) "expected `${words}`, and the sentence is ${builtins.toJSON (faultOfHost host)}"
        ++ lib.optional (evaluates host) "a host is accepted of which is said: ${words}"
        ++ lib.optional (isMade host) "lib.mkHost accepts a host of which is said: ${words}"
      ) descriptions
    )
    ++ lib.optional (
      faultOfHost "worker" != "subject is a string: it takes class, system and modules"
    ) "an entry that is no attribute set is not named"
    ++ lib.optional (evaluates "worker") "a host that is no attribute set is accepted"
    ++ lib.optional (evaluates (
      entry // { modules = [ ./no-host ]; }
    )) "a host with a module that is not there is accepted"
    ++ lib.optional (builtins.tryEval (self.lib.mkHost entry)).success "lib.mkHost accepts a host without a name"
    ++ lib.optional (!evaluates entry) "a sound host is refused"
    ++ lib.optional (!isMade entry) "lib.mkHost refuses a sound host";

  layouts = import ../../lib/disks.nix { inherit lib; };
  one = byId;
  two = [
    byId
    "/dev/disk/by-id/ata-B"
  ];
  single = ''write disks.single-disk { device = "/dev/disk/by-id/…"; }'';
  several = ''write disks.data-disks { devices = [ "/dev/disk/by-id/…" ]; }'';
  mirror = ''write disks.zfs-mirror { devices = [ "/dev/disk/by-id/…" "/dev/disk/by-id/…" ]; }'';
  arguments = [
    [
      "single-disk"
      one
      "disks.single-disk was given a string: ${single}"
    ]
    [
      "single-disk"
      two
      "disks.single-disk was given a list: ${single}"
    ]
    [
      "single-disk"
      { }
      "disks.single-disk was given no device: ${single}"
    ]
    [
      "single-disk"
      { devices = two; }
      "disks.single-disk takes device, encrypt, and was given devices: ${single}"
    ]
    [
      "single-disk"
      { device = two; }
      "disks.single-disk cannot use what device is set to: ${single}"
    ]
    [
      "single-disk"
      {
        device = one;
        encrypt = "yes";
      }
      "disks.single-disk cannot use what encrypt is set to: ${single}"
    ]
    [
      "data-disks"
      one
      "disks.data-disks was given a string: ${several}"
    ]
    [
      "data-disks"
      { devices = one; }
      "disks.data-disks cannot use what devices is set to: ${several}"
    ]
    [
      "zfs-mirror"
      two
      "disks.zfs-mirror was given a list: ${mirror}"
    ]
    [
      "zfs-mirror"
      { devices = [ one ]; }
      "disks.zfs-mirror cannot use what devices is set to: ${mirror}"
    ]
  ];
  sound-arguments = {
    single-disk.device = one;
    data-disks.devices = [ one ];
    zfs-mirror = {
      devices = two;
      encrypt = true;
    };
  };
  isLayout = name: argument: (builtins.tryEval (self.lib.disks.${name} argument)).success;
  disks =
    lib.concatMap (
      case:
      let
        name = lib.elemAt case 0;
        argument = lib.elemAt case 1;
        words = lib.elemAt case 2;
        said = layouts.${name}.faultOf argument;
      in
      lib.optional (said != words) "expected `${words}`, and the sentence is ${builtins.toJSON said}"
      ++ lib.optional (isLayout name argument) "a layout is made of which is said: ${words}"
    ) arguments
    ++ lib.concatLists (
      lib.mapAttrsToList (
        name: argument: lib.optional (!isLayout name argument) "disks.${name} refuses sound arguments"
      ) sound-arguments
    );

  # Addresses have no mask, and their numbers are such.
  address = subject.options.hatrack.host.address.type;
  addresses =
    map (text: "${text} is taken as an address") (
      lib.filter address.check [
        "10.0.0.1000"
        "10.0.0"
        "10.0.0.7/24"
        "10.0.0.07"
        "gpu-1"
        ":"
        ""
      ]
    )
    ++ map (text: "${text} is refused as an address") (
      lib.filter (text: !address.check text) [
        "10.0.0.7"
        "255.255.255.255"
        "fd00::7"
        "::1"
        "2001:db8:0:1:2:3:4:5"
        "::ffff:10.0.0.7"
      ]
    );
in
{
  cases = map (case: case.title) flat;
  wrong = wrong ++ sane ++ secrets ++ tokens ++ reports ++ reporters ++ entries ++ disks ++ addresses;
}
