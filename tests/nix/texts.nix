# What the hosts come to, as text, one attribute for one file below texts/. Store paths are shortened when they are compared.
self:
let
  inherit (self.inputs.nixpkgs) lib;
  hosts = lib.mapAttrs (_: host: host.config) self.nixosConfigurations;

  unit = name: { "${name}" = config: config.systemd.units.${name}.text; };
  json = value: builtins.toJSON value;

  # Rules of NixOS itself stand in the same option.
  rules =
    config:
    lib.concatLines (
      lib.filter (lib.hasInfix "GROUP=") (lib.splitString "\n" config.services.udev.extraRules)
    );

  # The list of modules is that of the release.
  installation =
    config:
    json (
      config.hatrack.installation
      // {
        initrdModules = lib.elem "ahci" config.hatrack.installation.initrdModules;
      }
    );

  mounts =
    config:
    json (
      lib.mapAttrs (_: mount: { inherit (mount) device fsType options; }) (
        lib.filterAttrs (_: mount: mount.fsType != "none") config.fileSystems
      )
    );

  k3s =
    config:
    let
      inherit (config.services) k3s;
    in
    lib.concatLines (
      [
        k3s.role
        "clusterInit=${lib.boolToString k3s.clusterInit}"
        "server=${k3s.serverAddr}"
      ]
      ++ lib.splitString " " k3s.extraFlags
    );

  wanted = {
    control-1 = {
      "k3s.txt" = k3s;
      "manifests.json" =
        config:
        json (
          lib.mapAttrs (_: manifest: manifest.content) (
            # The health checks in it are files of k8s/apps, and tested there.
            lib.recursiveUpdate config.services.k3s.manifests {
              argocd.content.spec.valuesContent = "configs.cm of k8s/apps/health";
            }
          )
        );
      "mounts.json" = mounts;
      "installation.json" = installation;
      "agent.json" = config: json config.hatrack.agent.settings;
      "operator.json" = config: json config.hatrack.operator.settings;
    }
    // unit "hatrack-operator.service"
    // unit "hatrack-operator-access.service"
    // unit "hatrack-operator-access.timer";
    gpu-1 = {
      "k3s.txt" = k3s;
      "mounts.json" = mounts;
      "agent.json" = config: json config.hatrack.agent.settings;
      "polkit.js" = config: config.security.polkit.extraConfig;
      "hat@.target" = config: config.systemd.units."hat@.target".text;
    }
    // {
      "longhorn-preflight.sh" = config: config.system.build.longhornPreflight.text;
    }
    // unit "hatrack-agent.service"
    // unit "hatrack-enroll.service"
    // unit "hatrack-enroll.timer"
    // {
      "tmpfiles.conf" =
        config:
        lib.concatLines (lib.filter (lib.hasInfix "/var/lib/hatrack") config.systemd.tmpfiles.rules);
    }
    // unit "hatrack-longhorn-preflight.service";
    phones-1 = {
      "agent.json" = config: json config.hatrack.agent.settings;
      "hatrack.rules" = rules;
      "installation.json" = installation;
    }
    // unit "adb.service"
    // unit "hatrack-agent.service";
    pi-1 = {
      "agent.json" = config: json config.hatrack.agent.settings;
      "hatrack.rules" = rules;
      "installation.json" = installation;
      "config.txt" = config: config.hardware.raspberry-pi.configtxt.file.text;
      "firmware.json" =
        config:
        json {
          inherit (config.hardware.raspberry-pi.firmware) enable path;
          uboot = config.hardware.raspberry-pi.firmware.uboot.enable;
          mount = config.fileSystems."/boot/firmware".options;
          megabytes = config.sdImage.firmwareSize;
        };
    };
  };

  machine = import ./machine.nix self;
  machines =
    lib.mapAttrs' (
      name: host: lib.nameValuePair "${name}/machine.json" (json (machine host))
    ) self.nixosConfigurations
    // {
      "apart/machine.json" = json (machine apart);
      "apart/hatrack.rules" = rules apart.config;
      "apart/k3s-of-a-joining-server.txt" = k3s joiningServer.config;
      "apart/kernel-of-a-pi.json" = json (machine piOfKubernetes).kernel;
    };
  piOfKubernetes = self.lib.mkHost {
    name = "pi";
    class = "pi-ai-hat";
    system = "aarch64-linux";
    modules = [
      {
        hatrack.k3s.enable = true;
        system.stateVersion = "26.05";
      }
    ];
  };
  joiningServer = self.lib.mkHost {
    name = "control-2";
    class = "control-plane";
    system = "x86_64-linux";
    modules = [
      {
        hatrack = {
          cluster.founder = "control-1";
          host.address = "fd00::2";
          k3s = {
            founderAddress = "cluster.example.org";
            tlsNames = [ "10.0.0.2" ];
          };
        };
        system.stateVersion = "26.05";
      }
    ];
  };
  # What no host of the example has.
  apart = self.lib.mkHost {
    name = "apart";
    class = "gpu-worker";
    system = "x86_64-linux";
    modules = [
      {
        hatrack = {
          agent.metricsFor = [
            "10.0.0.20"
            "fd00::/64"
          ];
          coral.pcie = true;
          gpu.driver = "nvidia-closed";
          hailo = {
            generation = "8";
            driver = _: self.inputs.nixpkgs.legacyPackages.x86_64-linux.hello // { version = "4.23.0"; };
            firmware = self.inputs.nixpkgs.legacyPackages.x86_64-linux.hello;
          };
          host.address = "10.0.0.9";
          usb = {
            enable = true;
            switchedHubs = [ "2109:2817" ];
          };
          zfs = {
            enable = true;
            arcMax = 4294967296;
          };
        };
        networking.hostId = "7d1f93c4";
        system.stateVersion = "26.05";
      }
    ];
  };

  texts = lib.concatMapAttrs (
    host: files:
    lib.mapAttrs' (file: text: lib.nameValuePair "${host}/${file}" (text hosts.${host})) files
  ) wanted;

  # A script of disko as the installer runs it, but for the tools that it finds by itself.
  script = text: "#!/usr/bin/env bash\n${text}";
  diskFiles =
    { config, ... }:
    let
      inherit (config.disko.devices) _create _mount;
    in
    {
      "format.sh" = script _create;
      "mount.sh" = script _mount;
      "mounts.json" = mounts config;
    }
    // lib.optionalAttrs (config.system.build ? copyEsp) {
      "check-esps.sh" = config.system.build.checkEsps.text;
      "copy-esp.sh" = config.system.build.copyEsp.text;
    }
    // lib.optionalAttrs (config.boot.initrd.systemd.units ? "zfs-import-system.service") {
      "zfs-import-system.service" = config.boot.initrd.systemd.units."zfs-import-system.service".text;
    }
    // lib.optionalAttrs (config.boot.initrd.luks.devices != { }) {
      "initrd-luks.json" = json (
        lib.mapAttrs (_: luks: {
          inherit (luks) allowDiscards crypttabExtraOpts device;
        }) config.boot.initrd.luks.devices
      );
    }
    // lib.optionalAttrs (config.environment.etc ? crypttab) {
      crypttab = config.environment.etc.crypttab.text;
    };
  onMachine =
    layout:
    self.lib.mkHost {
      name = "layout";
      class = "worker";
      system = "x86_64-linux";
      modules = [
        layout
        {
          networking.hostId = "7d1f93c4";
          system.stateVersion = "26.05";
        }
      ];
    };
  layouts = lib.concatMapAttrs (
    name: layout:
    lib.mapAttrs' (file: text: lib.nameValuePair "disks/${name}/${file}" text) (
      diskFiles (onMachine layout)
    )
  ) (import ./layouts.nix { inherit (self.lib) disks; });

  # What k3s applies by itself where there is no Argo CD, in its order.
  alone = self.lib.mkHost {
    name = "alone";
    class = "control-plane";
    system = "x86_64-linux";
  };
  applied = alone.config.services.k3s.manifests;
  society = {
    "society/manifests.txt" = lib.concatMapStrings (
      name:
      let
        inherit (applied.${name}) source;
      in
      "${name}: ${source.name or (baseNameOf (toString source))}\n"
    ) (lib.attrNames applied);
    "society/policy.sh" = applied.hatrack-3-policy.source.buildCommand;
  };

  nodes = lib.mapAttrs' (name: text: lib.nameValuePair "nodes/${name}.yaml" text) (
    self.lib.clusterNodes self.nixosConfigurations
  );
in
texts // machines // layouts // society // nodes
