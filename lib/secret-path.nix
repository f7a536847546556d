# The type of a path at which a machine finds a secret. A path of the repository would be copied into the Nix store, where
# everybody reads it.
{ lib }:
lib.types.mkOptionType {
  name = "secretPath";
  description = "absolute path outside of the Nix store, as a string";
  check = path: lib.isString path && lib.hasPrefix "/" path && !lib.hasPrefix builtins.storeDir path;
  merge = lib.mergeEqualOption;
}
