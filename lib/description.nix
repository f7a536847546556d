# What is wrong about the description of a machine, in a sentence; null where nothing is. It blames the place where it is written,
# and not a function that whoever wrote it has never seen.
{
  lib,
  classes,
  systems,
}:
place: host:
let
  list = lib.concatStringsSep ", ";
  facts = {
    class = classes;
    system = systems;
  };
  unknown = lib.subtractLists (lib.attrNames facts ++ [ "modules" ]) (lib.attrNames host);
  missing = lib.filter (fact: !host ? ${fact}) (lib.attrNames facts);
  wrong = lib.filter (fact: host ? ${fact} && !lib.elem host.${fact} facts.${fact}) (
    lib.attrNames facts
  );
  first = lib.head (missing ++ wrong);
in
if !lib.isAttrs host then
  "${place} is a ${builtins.typeOf host}: it takes class, system and modules"
else if unknown != [ ] then
  "${place} has ${list unknown}, and takes class, system and modules"
else if missing != [ ] then
  "${place} has no ${first}: give it one of ${list facts.${first}}"
else if wrong != [ ] then
  "${place} has a ${first} that is none of ${list facts.${first}}"
else if !lib.isList (host.modules or [ ]) then
  "${place} has modules that are no list: put them into brackets"
else
  null
