/* The first and only process of an emulated machine: runs /test with the arguments that /arguments holds, one a line,
   says how it ended, and switches the machine off. */
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    char *arguments[32] = {"/test"};
    char *environment[] = {"RUST_BACKTRACE=1", NULL};
    char lines[31][256];
    FILE *file = fopen("/arguments", "r");
    for (int count = 0; file && count < 30 && fgets(lines[count], sizeof lines[count], file); count++) {
        lines[count][strcspn(lines[count], "\n")] = 0;
        arguments[count + 1] = lines[count];
    }
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    pid_t child = fork();
    if (child == 0) {
        execve("/test", arguments, environment);
        perror("/test");
        _exit(126);
    }
    int status = -1;
    waitpid(child, &status, 0);
    printf("ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    fflush(stdout);
    sleep(1);
    reboot(RB_POWER_OFF);
    return 1;
}
