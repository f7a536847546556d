{
  description = "Turns bare machines into one cluster and hands each of them the work it is able to do";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

    # Data: the vulnerabilities known of crates.
    advisory-db.url = "github:rustsec/advisory-db";
    advisory-db.flake = false;

    disko.url = "github:nix-community/disko";
    disko.inputs.nixpkgs.follows = "nixpkgs";

    nixos-hardware.url = "github:NixOS/nixos-hardware";
    nixos-hardware.inputs.nixpkgs.follows = "nixpkgs";

    sops-nix.url = "github:Mic92/sops-nix";
    sops-nix.inputs.nixpkgs.follows = "nixpkgs";

    treefmt-nix.url = "github:numtide/treefmt-nix";
    treefmt-nix.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    inputs@{ self, nixpkgs, ... }:
    let
      inherit (nixpkgs) lib;
      eachSystem = lib.genAttrs self.lib.systems;
      pkgsFor = eachSystem (system: nixpkgs.legacyPackages.${system}.extend self.overlays.default);
      eachPkgs = f: eachSystem (system: f pkgsFor.${system});
      formatting = eachPkgs (pkgs: inputs.treefmt-nix.lib.evalModule pkgs ./treefmt.nix);
    in
    {
      overlays.default = import ./packages;

      packages = eachPkgs (pkgs: {
        inherit (pkgs)
          hatrack
          hatrack-agent
          hatrack-init
          hatrack-install
          hatrack-operator
          ;
        default = pkgs.hatrack;
        # What goes into k8s/nodes: the spec of each host, as this flake declares it.
        nodes = self.lib.nodeManifests pkgs self.nixosConfigurations;
      });

      nixosModules = import ./modules inputs;

      lib = import ./lib inputs;

      nixosConfigurations = self.lib.mkCluster (import ./hosts inputs);

      apps = eachPkgs (
        pkgs:
        lib.mapAttrs
          (name: description: {
            type = "app";
            program = lib.getExe pkgs."hatrack-${name}";
            meta.description = description;
          })
          {
            init = "Make the keys and secrets of a cluster of one's own";
            install = "Install a host of a flake on a machine that answers on ssh";
          }
      );

      templates.default = {
        path = ./template;
        description = "A cluster of one's own: hosts and what only they have";
        welcomeText = builtins.readFile ./template/README.md;
      };

      formatter = eachSystem (system: formatting.${system}.config.build.wrapper);

      devShells = eachPkgs (pkgs: {
        default = pkgs.callPackage ./packages/shell.nix { };
        cluster = pkgs.callPackage ./packages/cluster-shell.nix { };
      });

      checks = eachPkgs (
        pkgs:
        import ./tests/nix {
          inherit inputs pkgs;
          formatting = formatting.${pkgs.stdenv.hostPlatform.system}.config.build.check self;
        }
      );
    };
}
