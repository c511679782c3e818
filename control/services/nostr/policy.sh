#!/bin/sh
# Says of each event whether it is taken: only those of the keys named here are.
# An event comes as one line of JSON; its id and its author are 64 hexadecimal digits each.
while IFS= read -r line; do
    event="${line#*\"event\":}"
    id=$(printf '%s' "$event" | sed -n 's/.*"id":"\([0-9a-f]\{64\}\)".*/\1/p')
    author=$(printf '%s' "$event" | sed -n 's/.*"pubkey":"\([0-9a-f]\{64\}\)".*/\1/p')
    case "$author" in
{% for key in options.allow %}
    {{ key | public_key }}) action=accept ;;
{% endfor %}
    *) action=reject ;;
    esac
    printf '{"id":"%s","action":"%s","msg":"blocked: not one of ours"}\n' "$id" "$action"
done
