/*
 * admin: administrative APIs that read, or write no metadata at once: one file per API. They run when the state is durable (the
 * controller's queue) and end their request themselves. Thread: control.
 */
#ifndef MILLRACE_CONTROL_ADMIN_H
#define MILLRACE_CONTROL_ADMIN_H

#include "control_private.h"

mr_control_handler mr_admin_alter_replica_log_dirs;
mr_control_handler mr_admin_describe_configs;
mr_control_handler mr_admin_describe_log_dirs;
mr_control_handler mr_admin_list_config_resources;

#endif
