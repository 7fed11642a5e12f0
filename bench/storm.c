/* The storm: READS times open, read and close of one file, EXECS times fork, exec and wait.
 * It prints the nanoseconds between its first and its last call, so that the runtime's start does not count.
 * Every run makes the same calls, so every reader has to receive the same number of messages. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc < 3) return 0; /* this is what the storm executes */
    long reads = atol(argv[1]), execs = atol(argv[2]);
    char buffer[64];
    long long start = now();
    for (long i = 0; i < reads; i++) {
        int fd = open("/data", O_RDONLY);
        if (fd < 0 || read(fd, buffer, sizeof buffer) < 1) return 1;
        close(fd);
    }
    for (long i = 0; i < execs; i++) {
        pid_t pid = fork();
        if (pid < 0) return 1;
        if (pid == 0) {
            char number[24];
            snprintf(number, sizeof number, "%ld", i);
            execl("/storm", "storm", number, (char *)NULL);
            _exit(127);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || status != 0) return 1;
    }
    printf("%lld\n", now() - start);
    return 0;
}
