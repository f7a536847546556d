# Disk layouts, each a function of device ids, and what is wrong about the arguments of one, in a sentence; null where nothing is.
# A trace would lead into functions that whoever wrote them has never seen.
{ lib }:
let
  isName = lib.isString;
  areNames = names: lib.isList names && lib.all isName names;
  list = lib.concatStringsSep ", ";

  layouts = {
    data-disks = {
      layout = import ../disko/data-disks.nix;
      needs.devices = areNames;
      example = ''{ devices = [ "/dev/disk/by-id/…" ]; }'';
    };
    single-disk = {
      layout = import ../disko/single-disk.nix;
      needs.device = isName;
      example = ''{ device = "/dev/disk/by-id/…"; }'';
    };
    zfs-mirror = {
      layout = import ../disko/zfs-mirror.nix;
      needs.devices = names: areNames names && lib.length names == 2;
      example = ''{ devices = [ "/dev/disk/by-id/…" "/dev/disk/by-id/…" ]; }'';
    };
  };

  faultOf =
    name:
    { needs, example, ... }:
    arguments:
    let
      takes = needs // {
        encrypt = lib.isBool;
      };
      unknown = lib.subtractLists (lib.attrNames takes) (lib.attrNames arguments);
      missing = lib.subtractLists (lib.attrNames arguments) (lib.attrNames needs);
      unfit = lib.filter (key: !takes.${key} arguments.${key}) (lib.attrNames arguments);
      because = what: "disks.${name} ${what}: write disks.${name} ${example}";
    in
    if !lib.isAttrs arguments then
      because "was given a ${builtins.typeOf arguments}"
    else if unknown != [ ] then
      because "takes ${list (lib.attrNames takes)}, and was given ${list unknown}"
    else if missing != [ ] then
      because "was given no ${list missing}"
    else if unfit != [ ] then
      because "cannot use what ${list unfit} is set to"
    else
      null;
in
lib.mapAttrs (name: description: {
  inherit (description) layout;
  faultOf = faultOf name description;
}) layouts
