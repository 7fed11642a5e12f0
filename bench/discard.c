/* The floor: the least that a reader of gVisor's trace socket can do. It answers the handshake, receives every message
 * of every sandbox, adds up what the headers say, and throws the rest away.
 *
 * discard SOCKET SANDBOXES: listens, prints "ready", ends when that many sandboxes have come and gone, and then prints
 * {"frames", "bytes", "dropped"}. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char buffer[1 << 20];
static uint32_t dropped[1 << 16]; /* the last counter of each connection */

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int left = atoi(argv[2]);
    unsigned long long frames = 0, bytes = 0, lost = 0;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strncpy(name.sun_path, argv[1], sizeof name.sun_path - 1);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0), poll = epoll_create1(0);
    if (bind(listener, (struct sockaddr *)&name, sizeof name) || listen(listener, 64)) return perror("listen"), 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[64];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    puts("ready");
    fflush(stdout);
    while (left > 0) {
        int count = epoll_wait(poll, ready, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                fd = accept(listener, NULL, NULL);
                if (fd < 0 || fd >= 1 << 16) return perror("accept"), 1;
                /* The handshake is one message, and its answer is the same two bytes: version 1. */
                if (recv(fd, buffer, sizeof buffer, 0) < 1 || send(fd, "\x08\x01", 2, 0) != 2) return perror("handshake"), 1;
                event.data.fd = fd;
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
                continue;
            }
            /* One sandbox at most 64 messages in a row, so that none waits for another. */
            for (int n = 0; n < 64; n++) {
                ssize_t size = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
                if (size > 0) {
                    frames++;
                    bytes += size;
                    if (size >= 8) memcpy(&dropped[fd], buffer + 4, 4);
                } else if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
                    break;
                } else {
                    lost += dropped[fd];
                    dropped[fd] = 0;
                    close(fd);
                    left--;
                    break;
                }
            }
        }
    }
    printf("{\"frames\": %llu, \"bytes\": %llu, \"dropped\": %llu}\n", frames, bytes, lost);
    unlink(argv[1]);
    return 0;
}
