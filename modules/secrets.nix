# Secrets reach a machine encrypted for it alone, and are readable below /run/secrets.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hatrack.secrets;
in
{
  _class = "nixos";

  options.hatrack.secrets = {
    file = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      example = lib.literalExpression "./secrets.yaml";
      description = "File encrypted by sops, in the repository. Without it each module is told where its secrets lie.";
    };

    hostKey = lib.mkOption {
      type = import ../lib/secret-path.nix { inherit lib; };
      default = "/var/lib/sops-nix/key.txt";
      description = ''
        The age key of the host, with which it reads its secrets. Installing puts it there, before the first boot.
      '';
    };
  };

  config = lib.mkIf (cfg.file != null) {
    sops = {
      defaultSopsFile = cfg.file;
      # Only the key that was placed at installation: one made on the machine could decrypt nothing.
      age.keyFile = cfg.hostKey;
      age.sshKeyPaths = [ ];
      gnupg.sshKeyPaths = [ ];
    };
  };
}
