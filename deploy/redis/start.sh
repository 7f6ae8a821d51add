#!/bin/sh
# Starts Redis in a container: writes the access list with the hashes of the passwords it is given
# into the data directory (the working directory, as in the official image), then becomes Redis.
# A password may be a comma list: all of its values are accepted, so that it can be changed.
set -eu

here=$(dirname "$0")

hashes() {
  printf '%s' "$1" | tr ',' '\n' | while IFS= read -r password || [ -n "$password" ]; do
    [ -z "$password" ] || printf '#%s ' "$(printf '%s' "$password" | sha256sum | cut -d ' ' -f 1)"
  done
}

for name in REDIS_GATEWAY_PASSWORD REDIS_APPROVAL_PASSWORD; do
  eval "value=\${$name:-}"
  case $value in
    '' | ,*) echo "$name is not set: give a random text of 32 or more characters" >&2; exit 78 ;;
  esac
done

umask 077
sed -e '/^#/d' \
  -e "s/#@REDIS_GATEWAY_PASSWORD_SHA256@/$(hashes "$REDIS_GATEWAY_PASSWORD")/" \
  -e "s/#@REDIS_APPROVAL_PASSWORD_SHA256@/$(hashes "$REDIS_APPROVAL_PASSWORD")/" \
  "$here/users.acl" >users.acl
unset REDIS_GATEWAY_PASSWORD REDIS_APPROVAL_PASSWORD

# The image's own entry point gives the data directory to the user redis and becomes that user.
exec docker-entrypoint.sh redis-server "$here/redis.conf" --aclfile "$PWD/users.acl" "$@"
