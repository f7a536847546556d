# Secrets reach a machine encrypted for it alone, and are readable below /run/secrets.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hatrack.secrets;
  isThere = builtins.pathExists cfg.file;
  # In YAML or in JSON.
  isEncrypted = lib.any (line: builtins.match "[[:space:]]*\"?sops\"?:.*" line != null) (
    lib.splitString "\n" (builtins.readFile cfg.file)
  );
in
{
  _class = "nixos";

  options.hatrack.secrets = {
    file = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      example = lib.literalExpression "./secrets.yaml";
      description = ''
        File encrypted by sops, in the repository, with what this host needs and no other may read. Without it each module is
        told where its secrets lie.
      '';
    };

    hostKey = lib.mkOption {
      type = import ../lib/secret-path.nix { inherit lib; };
      default = "/var/lib/sops-nix/key.txt";
      description = ''
        The age key of the host, with which it reads its secrets. Installing puts it there, before the first boot.
      '';
    };

    reads = lib.mkOption {
      type = lib.types.attrsOf lib.types.anything;
      readOnly = true;
      internal = true;
      description = "What `nix run .#init` puts into the file for the host, and encrypts for nobody else.";
      default = {
        file = if cfg.file == null then null else toString cfg.file;
        names = lib.optionals (cfg.file != null) (
          map (secret: secret.key) (
            lib.filter (secret: secret.sopsFile == cfg.file) (lib.attrValues config.sops.secrets)
          )
        );
      };
    };
  };

  config = lib.mkIf (cfg.file != null) {
    assertions = [
      {
        assertion = isThere;
        message = "hatrack.secrets.file of ${config.networking.hostName}, ${toString cfg.file}, is not there: `nix run .#init` makes it, and `git add` it then, since a flake sees nothing else.";
      }
      {
        assertion = isThere -> isEncrypted;
        message = "hatrack.secrets.file of ${config.networking.hostName}, ${toString cfg.file}, is not encrypted by sops: everybody could read it in the Nix store. `sops encrypt --in-place` it, and take the secrets that were in it for known.";
      }
    ];

    sops = {
      defaultSopsFile = cfg.file;
      # Only the key that was placed at installation: one made on the machine could decrypt nothing.
      age.keyFile = cfg.hostKey;
      age.sshKeyPaths = [ ];
      gnupg.sshKeyPaths = [ ];
    };
  };
}
