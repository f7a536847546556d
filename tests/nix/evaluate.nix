# The flake with inputs from folders in place of flake.lock, for machines without a network.
#
#   nix eval --impure --file tests/nix/evaluate.nix --argstr nixpkgs ~/nixpkgs --argstr inputs ~/inputs ATTRIBUTE
#
# `inputs` holds checkouts named as in flake.nix. A nixpkgs older than the pinned release gets what it lacks from older.nix.
{ nixpkgs, inputs }:
let
  call =
    path: arguments:
    let
      self = (import (path + "/flake.nix")).outputs (arguments // { inherit self; }) // {
        inputs = arguments;
        outPath = path;
        sourceInfo = { };
      };
    in
    self;

  tree = call (/. + nixpkgs) { };
  release = import ./older.nix tree;
  input = name: call (/. + inputs + "/${name}") { nixpkgs = release; };
in
call ../../. {
  nixpkgs = release;
  # Data, which no evaluation reads: any file stands for it.
  advisory-db = builtins.toFile "advisory-db" "";
  disko = input "disko";
  nixos-hardware = input "nixos-hardware";
  sops-nix = input "sops-nix";
  treefmt-nix = input "treefmt-nix";
}
