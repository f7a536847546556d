# The agent: one unprivileged service without capabilities.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hatrack.agent;
  toml = pkgs.formats.toml { };

  expected = lib.filterAttrs (_: count: count != null) cfg.expects;
  nvidia = config.hatrack.gpu.isNvidia;

  port = lib.toInt (lib.last (lib.splitString ":" cfg.settings.listen));
  isV6 = lib.hasInfix ":";

  secretPath = import ../lib/secret-path.nix { inherit lib; };
  checked = import ../lib/checked-config.nix { inherit lib pkgs; };

  # The service manager is asked by name, so a regular expression is all that stands between the agent and other units.
  polkitRule = ''
    polkit.addRule(function(action, subject) {
      if (action.id == "org.freedesktop.systemd1.manage-units" &&
          subject.user == "hatrack" &&
          /^hat@[a-z0-9]([-a-z0-9]*[a-z0-9])?\.target$/.test(action.lookup("unit")) &&
          ["start", "stop"].indexOf(action.lookup("verb")) >= 0) {
        return polkit.Result.YES;
      }
    });
  '';

  # The operator moves a hat once its node had this long to stop.
  stopTimeout = 30;
  wearers = lib.filterAttrs (
    _: service: lib.any isHat (service.partOf ++ service.wantedBy)
  ) config.systemd.services;
  isHat = unit: builtins.match "hat@.+\\.target" unit != null;
  hatsOf = service: lib.filter isHat (lib.unique (service.partOf ++ service.wantedBy));
  stopsInTime =
    service:
    let
      timeout = service.serviceConfig.TimeoutStopSec or null;
    in
    lib.isInt timeout && timeout <= stopTimeout;
in
{
  _class = "nixos";

  options.hatrack.agent = {
    enable = lib.mkEnableOption "the agent, which discovers what the machine has and registers it" // {
      default = true;
    };

    package = lib.mkPackageOption pkgs "hatrack-agent" { };

    expects = lib.genAttrs [ "gpus" "phones" "accelerators" ] (
      kind:
      mkOption {
        type = types.nullOr (types.ints.between 0 256);
        default = null;
        description = "How many usable ${kind} the machine should have; fewer are reported as a condition.";
      }
    );

    settings = mkOption {
      type = types.submodule {
        freeformType = toml.type;
        options.listen = mkOption {
          type = types.strMatching ".+:[0-9]+";
          default = if cfg.metricsFor == [ ] then "127.0.0.1:9470" else "[::]:9470";
          defaultText = lib.literalMD "loopback, or every address where {option}`hatrack.agent.metricsFor` names somebody";
          description = "Address and port of `/metrics`, `/healthz` and `/readyz`.";
        };
      };
      default = { };
      example = {
        discovery.full-pass = "10m";
      };
      description = "What else goes into `/etc/hatrack/agent.toml`.";
    };

    metricsFor = mkOption {
      type = types.listOf (types.strMatching "[0-9a-fA-F.:]+(/[0-9]+)?");
      default = [ ];
      example = [ "10.0.0.20" ];
      description = "Addresses that may read the metrics. Nobody else reaches them, pods of the machine included, and without one they stay on loopback.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion =
          cfg.settings.api.kubeconfig or null == null || secretPath.check cfg.settings.api.kubeconfig;
        message = "hatrack.agent.settings.api.kubeconfig of ${config.networking.hostName} is no path outside of the Nix store, where everybody could read it: name a file on the machine, as a string.";
      }
    ]
    ++ lib.mapAttrsToList (name: service: {
      assertion = stopsInTime service;
      message = "systemd.services.${name}.serviceConfig.TimeoutStopSec must be a number of seconds of at most ${toString stopTimeout}: the service wears ${toString (hatsOf service)}, and the hat moves on when that time is over.";
    }) wearers;

    hatrack.agent.settings = {
      inherit (config.hatrack.host) name class;
    }
    // lib.optionalAttrs (config.hatrack.host.profile != null) {
      inherit (config.hatrack.host) profile;
    }
    // lib.optionalAttrs (expected != { }) { expects = expected; };

    environment.etc."hatrack/agent.toml".source = checked cfg.package (
      toml.generate "agent.toml" cfg.settings
    );

    users.users.hatrack = {
      isSystemUser = true;
      group = "hatrack";
      description = "hatrack agent";
    };
    users.groups.hatrack = { };

    systemd.services.hatrack-agent = {
      description = "hatrack agent";
      documentation = [ "https://github.com/hatrack/hatrack" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      # Not after k3s: the machine is to be seen when Kubernetes is what is broken.
      after = [
        "network-online.target"
        "nvidia-persistenced.service"
      ];
      restartTriggers = [ config.environment.etc."hatrack/agent.toml".source ];
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = import ../lib/hardening.nix // {
        ExecStart = "${lib.getExe cfg.package} run --config /etc/hatrack/agent.toml";
        ExecReload = "${lib.getExe' pkgs.coreutils "kill"} -HUP $MAINPID";
        Type = "notify";
        WatchdogSec = 60;
        Restart = "always";
        RestartSec = 5;
        # The hats stay as they are when the agent stops: an update must not end them, and at a shutdown systemd stops their targets.

        User = "hatrack";
        Group = "hatrack";
        StateDirectory = "hatrack";
        StateDirectoryMode = "0750";
        RuntimeDirectory = "hatrack/hats";
        # The files of the hats are read by the services that wear them, while the agent restarts as well.
        RuntimeDirectoryPreserve = true;
        UMask = "0027";

        # Root alone reads the UUID. A board without SMBIOS gets an empty line and is told by its serial number.
        LoadCredential = [ "product_uuid:/sys/class/dmi/id/product_uuid" ];
        SetCredential = [ "product_uuid:\\n" ];

        # Devices are seen through sysfs. NVML alone needs nodes: nvidiactl, nvidia-uvm and one for each GPU.
        DeviceAllow = lib.mkIf nvidia "char-nvidia* rw";
        # libnvidia-ml.so.1 belongs to the driver.
        Environment = lib.mkIf nvidia "LD_LIBRARY_PATH=/run/opengl-driver/lib";

        # Libraries of the driver are not known to do without.
        MemoryDenyWriteExecute = !nvidia;
        # Netlink brings the kernel's hotplug events, a Unix socket the service manager.
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
          "AF_UNIX"
        ];
      };
    };

    systemd.targets."hat@" = {
      description = "Hat %i";
      documentation = [ "https://github.com/hatrack/hatrack" ];
    };

    security.polkit = {
      enable = true;
      extraConfig = polkitRule;
    };

    # Before what NixOS accepts by interface: pods of this machine are among the others. Each goes above the one before.
    networking.firewall.extraCommands = lib.mkIf (cfg.metricsFor != [ ]) ''
      ip46tables -I nixos-fw -p tcp ! -i lo --dport ${toString port} -j nixos-fw-log-refuse
      ${lib.concatMapStrings (address: ''
        ${
          if isV6 address then "ip6tables" else "iptables"
        } -I nixos-fw -p tcp -s ${address} --dport ${toString port} -j nixos-fw-accept
      '') cfg.metricsFor}'';
  };
}
