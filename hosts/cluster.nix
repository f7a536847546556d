# What all machines of the cluster have in common.
{
  hatrack = {
    cluster.founder = "control-1";

    # The example's key: nobody has its other half. Put your own here.
    base.sshKeys = [
      "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGoPkqLNchn4UV9PdSnrEL56sU9u0eugRJmD12ibYBug owner@example"
    ];

    cilium.enable = true;
    longhorn.enable = true;
    argocd = {
      enable = true;
      repository = "https://github.com/hatrack/hatrack";
    };
  };
}
