output "task_definition_arn" {
  description = "The task definition, with its revision."
  value       = aws_ecs_task_definition.this.arn
}

output "service_name" {
  description = "The ECS service."
  value       = aws_ecs_service.this.name
}

output "connections_per_task" {
  description = "The share of one task; an update has at most twice the tasks."
  value       = local.share
}
