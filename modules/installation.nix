# What the installer has to know of a machine before it touches it.
{
  config,
  lib,
  ...
}:
let
  inherit (config.hatrack) agent cluster host;

  layers =
    content:
    [ content ]
    ++ lib.optionals (content ? content && content.content != null) (layers content.content);
  partitions = lib.concatMap (disk: lib.attrValues (disk.content.partitions or { })) (
    lib.attrValues config.disko.devices.disk
  );
in
{
  _class = "nixos";

  options.hatrack.installation = lib.mkOption {
    type = lib.types.attrsOf lib.types.anything;
    readOnly = true;
    internal = true;
    description = "What `nix run .#install` reads.";
    default = {
      inherit (config.hatrack.host) class install;
      inherit (config.nixpkgs.hostPlatform) system;
      # Nobody can be asked for it but itself: there is no cluster yet.
      founds = cluster.founder == host.name;
      # Who has an access to the cluster from its first day on.
      founderAddress = cluster.hosts.${toString cluster.founder}.address or null;
      report = config.hardware.facter.reportPath != null;
      # What its first stage can drive; the rest of its modules lie on the disk.
      initrdModules = config.boot.initrd.availableKernelModules ++ config.boot.initrd.kernelModules;
      disks = lib.mapAttrsToList (_: disk: disk.device) config.disko.devices.disk;
      encrypted = lib.any (
        partition: lib.any (layer: layer.type == "luks") (layers partition.content)
      ) partitions;
      # Where the key goes with which the host reads its secrets.
      hostKey = if config.hatrack.secrets.file == null then null else config.hatrack.secrets.hostKey;
      # Where the token goes with which its agent enrolls. Below /run it comes with the secrets, at each boot.
      tokenFile =
        if
          agent.enable
          && agent.enrollment.by == "token"
          && !lib.hasPrefix "/run/" (toString agent.enrollment.tokenFile)
        then
          agent.enrollment.tokenFile
        else
          null;
    };
  };
}
