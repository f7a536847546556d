# The overlay: what hatrack adds to nixpkgs.
final: _prev: {
  hatrack-agent = final.callPackage ./workspace.nix {
    crate = "hatrack-agent";
    description = "Discovers what a machine has and registers it with the cluster";
  };

  hatrack-operator = final.callPackage ./workspace.nix {
    crate = "hatrack-operator";
    description = "Watches a cluster and puts hats on the machines that are able to wear them";
  };

  hatrack = final.callPackage ./workspace.nix {
    crate = "hatrack";
    description = "Sees the machines of a cluster, what they have and what is wrong with it";
    selfDescribing = true;
  };

  hatrack-init = final.callPackage ./init.nix { };
  hatrack-install = final.callPackage ./install.nix { };
}
