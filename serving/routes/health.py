"""What load balancers and monitors ask."""

from fastapi import APIRouter, Response

from reelseek.serving import telemetry
from reelseek.serving.services import Services


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz", summary="Whether this worker runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/readyz", summary="Whether this worker is warmed up and answers searches")
    async def readyz() -> dict[str, str]:
        services.searcher  # noqa: B018  # raises as long as there is none
        return {"status": "ready"}

    @routes.get("/metrics", summary="Metrics of all workers, for Prometheus")
    async def metrics() -> Response:
        telemetry.WAITING.set(services.admission.num_waiting)
        if services.personal is not None:
            services.personal.note_metrics()
        return Response(telemetry.metrics_text(), media_type="text/plain; version=0.0.4")

    return routes
