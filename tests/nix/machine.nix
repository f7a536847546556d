# What the modules set of NixOS beside services and files of their own, for one host: what a reader compares, and what no release
# of NixOS adds to. Of lists to which NixOS adds, it holds what this repository's files add.
self:
{ config, options, ... }:
let
  inherit (self.inputs.nixpkgs) lib;
  isOurs = file: lib.hasPrefix (toString ../../modules) (toString file);
  ours =
    option:
    lib.unique (
      lib.concatMap (definition: definition.value) (
        lib.filter (definition: isOurs definition.file) option.definitionsWithLocations
      )
    );
  has = name: lib.elem name (map lib.getName config.environment.systemPackages);
  inherit (config) boot hardware services;
  isUnfreeAllowed =
    name: (config.nixpkgs.config.allowUnfreePredicate or (_: false)) { pname = name; };
in
{
  firewall = {
    inherit (config.networking.firewall)
      allowedTCPPorts
      allowedUDPPorts
      checkReversePath
      enable
      trustedInterfaces
      ;
    metrics = lib.filter (lib.hasInfix "nixos-fw-") (
      lib.filter (lib.hasInfix "--dport 9470") (
        lib.splitString "\n" config.networking.firewall.extraCommands
      )
    );
  };
  kernel = {
    modules = ours options.boot.kernelModules;
    parameters = ours options.boot.kernelParams;
    fromOutside = map lib.getName boot.extraModulePackages;
    fileSystems = lib.filter (name: boot.supportedFilesystems.${name} or false) [
      "nfs"
      "zfs"
    ];
    sysctl = lib.getAttrs (lib.filter (key: boot.kernel.sysctl ? ${key}) [
      "fs.inotify.max_user_instances"
      "fs.inotify.max_user_watches"
      "kernel.panic"
    ]) boot.kernel.sysctl;
  };
  loader = {
    systemd-boot = lib.optionalAttrs boot.loader.systemd-boot.enable {
      inherit (boot.loader.systemd-boot) configurationLimit editor;
    };
    inherit (boot.loader.efi) canTouchEfiVariables;
    extlinux = boot.loader.generic-extlinux-compatible.enable;
  };
  nvidia = lib.optionalAttrs config.hatrack.gpu.isNvidia {
    inherit (hardware.nvidia) nvidiaPersistenced nvidiaSettings open;
    isLegacy580 =
      hardware.nvidia.package.drvPath == boot.kernelPackages.nvidiaPackages.legacy_580.drvPath;
    toolkit = hardware.nvidia-container-toolkit.enable;
    graphics = hardware.graphics.enable;
    isRuntimeFound = lib.any (package: lib.hasInfix "container-toolkit" (lib.getName package)) (
      config.systemd.services.k3s.path
    );
    inherit (services.xserver) videoDrivers;
  };
  unfree = lib.genAttrs [
    "nvidia-persistenced"
    "nvidia-settings"
    "nvidia-x11"
    "steam"
  ] isUnfreeAllowed;
  firmware = {
    inherit (hardware) enableRedistributableFirmware;
    ours = map lib.getName (ours options.hardware.firmware);
  };
  ssh = {
    inherit (services.openssh) enable openFirewall;
    inherit (services.openssh.settings)
      KbdInteractiveAuthentication
      PasswordAuthentication
      PermitRootLogin
      ;
    keys = lib.length config.users.users.root.openssh.authorizedKeys.keys;
    waitsForK3s = lib.any (unit: lib.hasPrefix "k3s" unit) (
      config.systemd.services.sshd.after ++ config.systemd.services.sshd.requires
    );
  };
  sops = lib.optionalAttrs (config.hatrack.secrets.file != null) {
    inherit (config.sops.age) keyFile sshKeyPaths;
    reads = config.hatrack.secrets.reads.names;
    secrets = lib.mapAttrs (_: secret: { inherit (secret) path restartUnits; }) config.sops.secrets;
  };
  longhorn = lib.optionalAttrs config.hatrack.longhorn.enable {
    iscsi = services.openiscsi.enable;
    tools = lib.filter has [
      "cryptsetup"
      "nfs-utils"
    ];
  };
  zfs = lib.optionalAttrs config.hatrack.zfs.enable {
    inherit (boot.zfs) forceImportRoot;
    scrub = services.zfs.autoScrub.enable;
    trim = services.zfs.trim.enable;
  };
  journal = config.environment.etc."systemd/journald.conf.d/hatrack.conf".text;
  watchdog = config.systemd.settings.Manager;
  collects = { inherit (config.nix.gc) automatic dates options; };
}
