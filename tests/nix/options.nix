# Every option of NixOS, disko, sops-nix and nixos-hardware that a module or a layout sets is in the table of docs/nix-options.md.
# The answer is what is missing there.
self:
let
  inherit (self.inputs.nixpkgs) lib;

  # `a.{b,c}.<name>.d` of the table stands for `a.b` and `a.c`: what comes behind a name is set in one module with it.
  table = builtins.readFile ../../docs/nix-options.md;
  quoted = lib.concatLists (lib.filter lib.isList (builtins.split "`([^`]+)`" table));
  expand =
    text:
    let
      parts = builtins.match "([^{]*)\\{([^}]*)}(.*)" text;
      alternatives = lib.splitString "," (lib.elemAt parts 1);
    in
    if parts == null then
      [ text ]
    else
      lib.concatMap (middle: expand (lib.head parts + middle + lib.last parts)) alternatives;
  known = map (text: lib.head (lib.splitString ".<" text)) (lib.concatMap expand quoted);
  isKnown =
    name:
    lib.any (
      entry: name == entry || lib.hasPrefix "${entry}." name || lib.hasPrefix "${name}." entry
    ) known;

  # The options that a module sets, under whatever condition.
  setBy =
    host: module:
    let
      arguments = host._module.specialArgs // {
        inherit (host) config options pkgs;
        inherit lib;
      };
      content = if lib.isFunction module then module arguments else module;
      settings =
        content.config or (removeAttrs content [
          "_class"
          "imports"
          "options"
        ]);
    in
    walk host.options [ ] settings;
  walk =
    options: place: value:
    # What an option is set to is not looked at.
    if lib.isOption (lib.attrByPath place { } options) then
      [ (lib.concatStringsSep "." place) ]
    else if
      value._type or null == "if" || value._type or null == "override" || value._type or null == "order"
    then
      walk options place value.content
    else if value._type or null == "merge" then
      lib.concatMap (walk options place) value.contents
    else if !lib.isAttrs value then
      [ (lib.concatStringsSep "." place) ]
    else
      lib.concatLists (
        lib.mapAttrsToList (name: walk options (place ++ [ name ])) (
          removeAttrs value (
            lib.optionals (place == [ ]) [
              "hatrack"
              "assertions"
              "warnings"
            ]
          )
        )
      );

  layouts = lib.attrValues (import ./layouts.nix { inherit (self.lib) disks; });
  ours = map import (lib.filesystem.listFilesRecursive ../../modules);
  modules =
    layouts ++ lib.filter (module: !(lib.functionArgs module == { } && lib.isFunction module)) ours;
  wanted = lib.unique (
    lib.concatMap (host: lib.concatMap (setBy host) modules) (lib.attrValues self.nixosConfigurations)
  );
in
map (name: "${name} is not in docs/nix-options.md") (lib.filter (name: !isKnown name) wanted)
